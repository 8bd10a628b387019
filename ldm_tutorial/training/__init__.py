"""The three trainings of a latent diffusion model, in the order in which they run: CLIP, autoencoder, U-Net.

All read and write one folder (`--folder`, "runs/emoji" unless told otherwise), which ends as a complete model:

    runs/emoji/tokenizer, text_encoder, contrastive     written by `ldm-tutorial train clip`
    runs/emoji/vae                                      written by `ldm-tutorial train autoencoder`, which reads contrastive
    runs/emoji/unet, scheduler, model_index.json        written by `ldm-tutorial train unet`, which reads all of the above
    runs/emoji/judge                                    written by `ldm-tutorial train judge`: it measures, and is no part
    runs/emoji/training/NAME/                           state.pt to resume from, log.jsonl, samples/
"""

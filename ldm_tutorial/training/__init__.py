"""The three trainings of a latent diffusion model, in the order in which they run: CLIP, autoencoder, U-Net.

All read and write one folder (`--folder`, "runs/emoji" unless told otherwise), which ends as a complete model:

    runs/emoji/tokenizer, text_encoder, contrastive     written by `ldm-tutorial train clip`
    runs/emoji/vae                                      written by `ldm-tutorial train autoencoder`, which reads contrastive
    runs/emoji/unet, scheduler, model_index.json        written by `ldm-tutorial train unet`, which reads all of the above
    runs/emoji/judge                                    written by `ldm-tutorial train judge`: it measures, and is no part
    runs/emoji/training/NAME/                           state.pt to resume from, log.jsonl, samples/

Those on your own pictures (own.py) begin with a whole model, and have folders of their own:

    runs/lora/lora.safetensors                          written by `ldm-tutorial train lora --data FOLDER`
    runs/word/word.safetensors                          written by `ldm-tutorial train word --data FOLDER --word "<mine>"`
    runs/finetuned/                                     a whole model, written by `ldm-tutorial train unet --data FOLDER`

And a whole model, with guidance, is the teacher of one that draws in a few steps without it (distill.py, progressive.py):

    runs/distilled/lora.safetensors                     written by `ldm-tutorial train distill`
"""

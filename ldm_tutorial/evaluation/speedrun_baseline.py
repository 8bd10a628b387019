"""The first rows of docs/speedrun.md: the plain objective, AdamW, one caption in ten left out. Copy it, and make it better."""

import torch
from torch.nn import functional as F


def train(unet, data, seed):
    """Equation 3 of Rombach et al. 2022, until there are no more samples."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(unet.parameters(), betas=(0.9, 0.99))
    for batch in data.batches(32):
        z, words = batch.latents, batch.words  # (b, 4, h, w), (b, 77, d)
        t = torch.randint(data.num_train_timesteps, (len(z),), generator=generator)
        noise = torch.randn(z.shape, generator=generator).to(z.device)
        left_out = torch.rand(len(z), generator=generator).to(z.device) < 0.1
        words = torch.where(left_out.view(-1, 1, 1), data.no_words, words)
        predicted = unet(data.schedule.add_noise(z, noise, t), t.to(z.device), words)
        optimizer.param_groups[0]["lr"] = 8e-4 * min(1, 20 * data.spent, 2 - 2 * data.spent)
        optimizer.zero_grad()
        F.mse_loss(predicted, noise).backward()
        optimizer.step()
    return unet

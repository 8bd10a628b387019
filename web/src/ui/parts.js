/** The four parts of the machine: what each is for, and where it is built. */

const REPOSITORY = (import.meta.env.VITE_REPOSITORY ?? "../..").replace(/\/$/, "");

export const PARTS = {
  text_encoder: {
    title: "CLIP text encoder",
    question: "what do the words mean?",
    lines: [
      "The prompt is cut into tokens: whole words where they are common, pieces where they are rare. Each token is a number.",
      "A transformer turns each number into a vector that also knows the words before it.",
      "It runs once for each prompt. The U-Net reads its vectors in every step.",
    ],
    notebook: "05_clip.ipynb",
    file: "clip.py",
  },
  unet: {
    title: "U-Net",
    question: "which part of it is noise?",
    lines: [
      "It sees noisy latents, how noisy they are, and the words. It answers with the noise that it believes is in them.",
      "In attention, each place of the latents looks up the words that matter there.",
      "With guidance it is asked twice, without and with the prompt, and the difference is enlarged.",
    ],
    notebook: "06_unet.ipynb",
    file: "unet.py",
  },
  scheduler: {
    title: "Scheduler",
    question: "how much of it to take away?",
    lines: [
      "The predicted noise gives a guess of the clean latents. Early on, it is a poor one.",
      "So the scheduler goes only part of the way, to the next lower noise level, and asks again.",
      "Some schedulers add new noise in each step, others do not. None of them is learned.",
    ],
    notebook: { ddpm: "08_ddpm.ipynb", ddim: "09_ddim.ipynb", euler: "10_euler.ipynb", euler_a: "11_euler_ancestral.ipynb" },
    file: { ddpm: "schedulers/ddpm.py", ddim: "schedulers/ddim.py", euler: "schedulers/euler.py", euler_a: "schedulers/euler_ancestral.py" },
  },
  vae: {
    title: "VAE decoder",
    question: "what do the latents look like?",
    lines: [
      "All steps happen in latents, a small picture of numbers that stand for patches of pixels.",
      "The decoder turns latents into pixels. Only the last ones need it; here it also shows every step.",
      "Its other half, the encoder, makes latents of pictures. Training uses it, drawing from words does not.",
    ],
    notebook: "02_autoencoder.ipynb",
    file: "vae.py",
  },
};

/** The notebook and the file of a part, with their addresses. */
export function placesOf(part, scheduler) {
  const pick = (value) => (typeof value === "string" ? value : value[scheduler]);
  const [notebook, file] = [pick(PARTS[part].notebook), pick(PARTS[part].file)];
  return {
    notebook: { name: notebook.replace(".ipynb", ""), url: `${REPOSITORY}/notebooks/${notebook}` },
    file: { name: file, url: `${REPOSITORY}/ldm_tutorial/${file}` },
  };
}

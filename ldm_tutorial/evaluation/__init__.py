"""How good the emoji model is, in figures: `ldm-tutorial evaluate`. Nothing in here takes part in drawing.

judge.py          a network that says which subject a picture shows, and in which style
distortions.py    what the classifier is trained to see through, and tested with
reference.py      the data set as a source of questions: what to ask for, and which answers are right
drawing.py        all pictures that any figure needs, each drawn once
accuracy.py       the right subject, the right style; by category, by wording; the worst
samplers.py       guidance, steps and schedulers: curves, likeness, and the same distribution or not
detail.py         what is lost in the last of the noise; sharpness, and speckle on white
memorization.py   the nearest training picture, and how near it is; how much a seed changes
interpolation.py  on the way from one prompt or seed to another
autoencoder.py    what is lost on the way to the latents and back
metrics.py        how far two pictures are from each other
cost.py           megabytes, and seconds a picture
clip_score.py     how well a picture fits its prompt, by the CLIP of the U-Net; for notebooks, and no figure of these
statistics.py     how sure a share or a mean is; whether two samples differ
report.py         the figures as a Markdown table and as JSON
sheets.py         pictures to look at: sheets and curves
blind.py          sheets without prompts, for a viewer to name, and their keys
evaluate.py       all of it, in one call
"""

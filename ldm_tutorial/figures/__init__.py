"""Every picture of the notebooks, as pure functions from numbers and pictures to matplotlib figures."""

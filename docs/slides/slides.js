// The formulas first, since their size decides what fits; then the deck.
window.MathJax = {
  tex: { inlineMath: [["\\(", "\\)"]], displayMath: [["\\[", "\\]"]] },
  chtml: { matchFontHeight: false }, // a slide that is not shown has no height to match
  options: { enableMenu: false },
  startup: {
    async pageReady() {
      await MathJax.startup.defaultPageReady();
      await Reveal.initialize({
        width: 1280,
        height: 720,
        margin: 0.02,
        center: false,
        hash: true,
        slideNumber: "c/t",
        transition: "none",
        backgroundTransition: "none",
        scrollActivationWidth: null,
        plugins: [RevealNotes],
      });
      document.documentElement.dataset.ready = "yes";
    },
  },
};

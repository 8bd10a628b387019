// What the theme leaves unsaid for those who use a keyboard or a screen reader.
const WIDE = "div.highlight pre, div.math, div.table-wrapper, .sig:not(.sig-inline)";

// What is too wide for the page scrolls by itself; then the keyboard must reach it.
function reachable() {
  for (const box of document.querySelectorAll(WIDE)) {
    if (box.scrollWidth > box.clientWidth + 1) {
      box.tabIndex = 0;
      box.setAttribute("role", "group");
      box.setAttribute("aria-label", box.tagName === "PRE" ? "Code" : "Wide content");
    } else {
      for (const name of ["tabindex", "role", "aria-label"]) box.removeAttribute(name);
    }
  }
}

document.addEventListener("DOMContentLoaded", async () => {
  document.querySelector(".sidebar-drawer")?.setAttribute("aria-label", "All pages");
  document.querySelector(".toc-drawer")?.setAttribute("aria-label", "This page");
  await window.MathJax?.startup?.promise;
  reachable();
});
addEventListener("load", reachable);
addEventListener("resize", reachable);

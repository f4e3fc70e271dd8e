/**
 * Light and dark. A classic script in the head, so that the page never flashes the wrong one: it follows the system
 * until the button is pressed, and remembers the choice in localStorage.
 */
(() => {
  const KEY = "headrace.theme";
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const stored = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // storage is blocked: the system decides
    }
  };
  const current = () => root.dataset.theme || (system.matches ? "dark" : "light");

  const chosen = stored();
  if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;

  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const label = () => {
      const next = current() === "dark" ? "light" : "dark";
      button.setAttribute("aria-label", `Use the ${next} theme`);
      button.title = `Use the ${next} theme`;
    };
    button.addEventListener("click", () => {
      root.dataset.theme = current() === "dark" ? "light" : "dark";
      try {
        localStorage.setItem(KEY, root.dataset.theme);
      } catch {
        // Kept for this page only.
      }
      label();
    });
    system.addEventListener("change", label);
    label();
  });
})();

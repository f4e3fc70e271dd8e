/** Keep the newest text in view, until the reader scrolls up to read; then leave the page alone. */

const NEAR = 40; // px from the bottom that still count as being there

export class Follow {
  #pinned = true;
  #last = 0;
  #jump;

  /** @param {HTMLButtonElement} jump the "jump to latest" button */
  constructor(jump) {
    this.#jump = jump;
    addEventListener("scroll", () => this.#scrolled(), { passive: true });
    addEventListener("resize", () => this.#keep());
    new ResizeObserver(() => this.#keep()).observe(document.body); // after layout, before the paint
    jump.addEventListener("click", () => this.latest());
  }

  #keep() {
    // A page without an answer is read from its top.
    if (this.#pinned && !this.#empty) scrollTo({ top: document.documentElement.scrollHeight, behavior: "instant" });
    this.#last = scrollY;
    this.#show();
  }

  /** Go to the end and stay there; of an empty page, to its top. */
  latest() {
    this.#pinned = true;
    if (this.#empty) scrollTo({ top: 0, behavior: "instant" });
    this.#keep();
  }

  #scrolled() {
    // Growth never moves the page up, so upwards is the reader's hand.
    if (scrollY < this.#last - 1) this.#pinned = false;
    if (this.#distance() < NEAR) this.#pinned = true;
    this.#last = scrollY;
    this.#show();
  }

  #distance() {
    return document.documentElement.scrollHeight - innerHeight - scrollY;
  }

  get #empty() {
    return document.body.hasAttribute("data-empty");
  }

  #show() {
    this.#jump.hidden = this.#empty || this.#pinned || this.#distance() < NEAR;
  }
}

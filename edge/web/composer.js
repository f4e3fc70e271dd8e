/** Where messages are written. It grows with its text, sends on Enter, and edits earlier messages. */

const GROWS_ITSELF = CSS.supports("field-sizing", "content");

export class Composer {
  #field;
  #button;
  #banner;
  #doors;
  #busy = false;
  #draft = "";
  /** The exchange being edited, or null. */
  editing = null;

  /**
   * @param {HTMLFormElement} form with a textarea, a submit button and a `.editing` banner
   * @param {{send: (text: string, editing: object|null) => void, stop: () => void, editLast: () => void}} doors
   */
  constructor(form, doors) {
    this.#field = form.querySelector("textarea");
    this.#button = form.querySelector("[type=submit]");
    this.#banner = form.querySelector(".editing");
    this.#doors = doors;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.#busy) doors.stop();
      else this.#send();
    });
    this.#banner.querySelector("button").addEventListener("click", () => this.leaveEdit());
    this.#field.addEventListener("input", () => this.#changed());
    this.#field.addEventListener("keydown", (event) => this.#key(event));
    this.#changed();
  }

  /** While busy the button stops, and Enter waits. */
  set busy(busy) {
    this.#busy = busy;
    this.#button.dataset.mode = busy ? "stop" : "send";
    this.#button.setAttribute("aria-label", busy ? "Stop" : "Send");
    this.#button.title = busy ? "Stop (Esc)" : "Send (Enter)";
    this.#changed();
  }

  focus() {
    this.#field.focus();
  }

  /** Put an earlier message back to write it anew. */
  edit(exchange) {
    if (!this.editing) this.#draft = this.#field.value;
    this.editing = exchange;
    this.#banner.hidden = false;
    this.#set(exchange.question);
    this.#field.focus();
    this.#field.setSelectionRange(exchange.question.length, exchange.question.length);
  }

  leaveEdit() {
    if (!this.editing) return;
    this.editing = null;
    this.#banner.hidden = true;
    this.#set(this.#draft);
    this.#field.focus();
  }

  clear() {
    this.editing = null;
    this.#banner.hidden = true;
    this.#draft = "";
    this.#set("");
  }

  #send() {
    const text = this.#field.value.trim();
    if (!text) return;
    const { editing } = this;
    const draft = editing ? this.#draft : "";
    this.clear();
    this.#set(draft);
    this.#doors.send(text, editing);
  }

  #key(event) {
    if (event.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      if (!this.#busy) this.#send();
    } else if (event.key === "ArrowUp" && !this.#field.value && !this.#busy) {
      event.preventDefault();
      this.#doors.editLast();
    }
  }

  #set(text) {
    this.#field.value = text;
    this.#changed();
  }

  #changed() {
    this.#button.disabled = !this.#busy && !this.#field.value.trim();
    if (GROWS_ITSELF) return;
    this.#field.style.height = "auto";
    this.#field.style.height = `${this.#field.scrollHeight}px`;
  }
}

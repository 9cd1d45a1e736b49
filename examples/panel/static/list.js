// A list of many rows that makes those that are seen, and a few above and below. Rows have one height (--row).

import { h } from "./dom.js";

const SPARE = 8; // rows made above and below those that are seen
const MOST = 12; // rows made in one frame

export class List {
  #rows = new Map(); // id -> row
  #items = [];
  #top = h("tr", { class: "space", "aria-hidden": "true" }, h("td", { colspan: "7" }));
  #bottom = h("tr", { class: "space", "aria-hidden": "true" }, h("td", { colspan: "7" }));

  /** `make(item)` gives a row for an item: {element, show(item)}. */
  constructor(scroller, body, make) {
    this.scroller = scroller;
    this.body = body;
    this.make = make;
    this.active = ""; // id of the row that the keyboard is at
    // Asked for when they may have changed and not at each drawing: the answer has the browser lay out the page.
    this.height = 46;
    this.seen = 600;
    this.from = 0;
    scroller.addEventListener("scroll", () => {
      this.from = scroller.scrollTop;
      this.#soon();
    }, { passive: true });
    new ResizeObserver(() => {
      this.height = parseFloat(getComputedStyle(body).getPropertyValue("--row")) || 46;
      this.seen = scroller.clientHeight || 600;
      this.from = scroller.scrollTop;
      this.#soon();
    }).observe(scroller);
  }

  get rows() {
    return this.#rows.values();
  }

  #soon() {
    if (this.due) return;
    this.due = true;
    requestAnimationFrame(() => {
      this.due = false;
      this.draw();
    });
  }

  /** All items in their order, each with an `id`. */
  set(items) {
    this.#items = items;
    this.draw();
  }

  index(id) {
    return this.#items.findIndex((item) => item.id === id);
  }

  /** Make the rows that are seen, `most` new ones now and the rest in the next frames. */
  draw(most = MOST) {
    const items = this.#items;
    const height = this.height;
    const seen = Math.ceil(this.seen / height);
    const above = Math.max(0, Math.floor(this.from / height) - SPARE);
    const begin = Math.min(above, Math.max(0, items.length - seen - 2 * SPARE));
    let end = Math.min(items.length, begin + seen + 2 * SPARE);
    const focused = document.activeElement;
    const within = this.body.contains(focused);
    const keep = new Set();
    if (!this.active || (this.index(this.active) < 0)) this.active = items[0]?.id ?? "";
    // Rows that are not wanted go first: then those that stay are mostly in their places already.
    for (let at = begin; at < end; at++) keep.add(items[at].id);
    for (const [id, row] of this.#rows) {
      if (keep.has(id)) continue;
      row.element.remove();
      this.#rows.delete(id);
    }
    this.#space(this.#top, begin * height, true);
    let place = this.#top.isConnected ? this.#top.nextElementSibling : this.body.firstElementChild;
    for (let at = begin; at < end; at++) {
      const item = items[at];
      let row = this.#rows.get(item.id);
      if (!row && most-- <= 0) {
        end = at;
        this.#soon();
        break;
      }
      if (!row) this.#rows.set(item.id, row = this.make(item));
      row.show(item);
      row.element.setAttribute("aria-rowindex", at + 2);
      this.#reach(row, item.id === this.active);
      if (row.element === place) place = place.nextElementSibling;
      else this.body.insertBefore(row.element, place);
    }
    this.#space(this.#bottom, (items.length - end) * height, false);
    this.body.parentElement.setAttribute("aria-rowcount", items.length + 1);
    // An element that is moved loses the focus; one that has gone leaves it to the list.
    if (within && focused !== document.activeElement) {
      (this.body.contains(focused) ? focused : this.scroller).focus({ preventScroll: true });
    }
  }

  /** One row can be reached with the tab key, its buttons too: the others with the arrows. */
  #reach(row, active) {
    if (row.active === active) return;
    row.active = active;
    row.element.tabIndex = active ? 0 : -1;
    for (const button of row.buttons ?? []) button.tabIndex = active ? 0 : -1;
  }

  #space(element, height, first) {
    if (height <= 0) element.remove();
    else {
      element.style.height = `${height}px`;
      if (first ? this.body.firstElementChild !== element : this.body.lastElementChild !== element) {
        if (first) this.body.prepend(element);
        else this.body.append(element);
      }
    }
  }

  /** Go to the row `step` from here; `focus` it. */
  move(step) {
    const items = this.#items;
    if (!items.length) return;
    const from = Math.max(0, this.index(this.active));
    this.go(Math.min(items.length - 1, Math.max(0, from + step)));
  }

  go(index) {
    const item = this.#items[index];
    if (!item) return;
    this.active = item.id;
    const { height, scroller } = this;
    const head = this.body.parentElement.tHead?.offsetHeight ?? 0;
    if (index * height < scroller.scrollTop) scroller.scrollTop = index * height;
    else if ((index + 1) * height + head > scroller.scrollTop + scroller.clientHeight) {
      scroller.scrollTop = (index + 1) * height + head - scroller.clientHeight;
    }
    this.from = scroller.scrollTop;
    this.draw(Infinity);
    this.#rows.get(item.id)?.element.focus({ preventScroll: true });
  }

  /** The active row follows the focus. */
  at(element) {
    for (const [id, row] of this.#rows) {
      if (row.element !== element || id === this.active) continue;
      const before = this.#rows.get(this.active);
      this.active = id;
      if (before) this.#reach(before, false);
      this.#reach(row, true);
    }
  }
}

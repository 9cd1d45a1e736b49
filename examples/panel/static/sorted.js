// Items in their order, each put into its place when it comes: no frame sorts all of them.

/** Each item has an `id`, and an `order` that stays as it is while the item is here. */
export class Sorted {
  items = [];
  #here = new Map(); // id -> item

  #place({ order, id }) {
    let [low, high] = [0, this.items.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      const at = this.items[middle];
      if (at.order < order || (at.order === order && at.id < id)) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  put(item) {
    this.items.splice(this.#place(item), 0, item);
    this.#here.set(item.id, item);
  }

  remove(id) {
    const item = this.#here.get(id);
    if (!item) return;
    this.items.splice(this.#place(item), 1);
    this.#here.delete(id);
  }
}

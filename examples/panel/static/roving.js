// A list that the tab key comes to once, however long it is: arrow up and down go from line to line in it, Home and End
// to the first and the last.

const usable = (each) => !each.disabled && !each.hidden;

/**
 * Make the buttons of `list` so. The function returned is called when its lines have changed; with `within` true, which
 * means that the focus was in the list before, the focus stays there although its line has gone.
 */
export function roving(list) {
  let at = null; // where the focus was last
  const all = () => [...list.querySelectorAll("button")];
  const settle = (within = false) => {
    const buttons = all();
    const stop = at && list.contains(at) && usable(at) ? at : buttons.find(usable);
    for (const each of buttons) {
      const index = each === stop ? 0 : -1;
      if (each.tabIndex !== index) each.tabIndex = index;
    }
    if (within && !list.contains(document.activeElement)) stop?.focus({ preventScroll: true });
  };
  list.addEventListener("focusin", ({ target }) => {
    at = target.closest("button") ?? at;
    settle();
  });
  list.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || !event.target.closest("button")) return;
    const buttons = all().filter(usable);
    const here = buttons.indexOf(event.target);
    const to = { ArrowDown: here + 1, ArrowUp: here - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (to == null) return;
    event.preventDefault();
    buttons[to]?.focus();
  });
  return settle;
}

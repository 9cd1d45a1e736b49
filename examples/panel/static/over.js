// What lies over the page while it scrolls: on a phone its top and its tabs, everywhere the messages in the corner. How
// high that is goes to the style sheet, so that what gets the focus is scrolled to where it is seen.

import { $ } from "./dom.js";

export function start() {
  const [top, tabs, notices] = [document.querySelector(".top"), document.querySelector(".tabs"), $("notices")];
  const style = document.documentElement.style;
  const measure = () => {
    const sticky = getComputedStyle(top).position === "sticky";
    const shown = notices.childElementCount ? notices.offsetHeight + 16 : 0;
    style.setProperty("--over-top", `${sticky ? top.offsetHeight : 0}px`);
    style.setProperty("--tabs", `${tabs.offsetHeight}px`);
    style.setProperty("--notices", `${shown}px`);
  };
  const observer = new ResizeObserver(measure);
  for (const each of [top, tabs, notices]) observer.observe(each);
}

// Work in small pieces, so that no frame takes long: what is due is done at the next frame, BUDGET ms of it, and the
// rest in the frames after that. A page that is not seen has no frames; there a timer does it.

export const BUDGET = 10; // ms of a frame
const UNSEEN = 200; // ms after which work does not wait for a frame any longer
const SHARE = 4; // a work that took n ms is done again SHARE * n ms later at the earliest

const due = [];
let timer = 0;
let frame = 0;

function run() {
  clearTimeout(timer);
  cancelAnimationFrame(frame);
  timer = 0;
  const end = performance.now() + BUDGET;
  try {
    while (due.length) { // none: what was asked for within a work was done with it
      const work = due.shift();
      if (work(end)) due.push(work);
      if (performance.now() >= end) break;
    }
  } finally {
    if (due.length) next();
  }
}

function next() {
  if (timer) return;
  timer = setTimeout(run, UNSEEN);
  frame = requestAnimationFrame(run);
}

/** Do it at the next frame. `work(end)` looks at performance.now(), and returns true where it has not come to its end. */
export function inFrames(work) {
  due.push(work);
  next();
}

/** A function that has `work(end)` done soon as above, at most once in `wait` ms, the seldomer the longer it takes. */
export function paced(work, wait) {
  let [asked, cost] = [false, 0];
  return () => {
    if (asked) return;
    asked = true;
    setTimeout(() => inFrames((end) => {
      asked = false;
      const began = performance.now();
      const more = work(end);
      cost = performance.now() - began;
      return more;
    }), Math.max(wait, cost * SHARE));
  };
}

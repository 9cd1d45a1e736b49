// What is said to those who do not see the page: that callers wait, that something has failed. Little, and not faster
// than it can be heard: a change is said when it has lasted a moment, and what changes meanwhile is said as it is then.

export const pace = {
  settles: 1000, // ms
  pause: 10_000, // ms between two announcements in one place
};

/**
 * `say(words)` announces in `element` what words() returns when its time has come; null for nothing. `hush()` empties
 * it, so that it does not say what is over.
 */
export function speaker(element) {
  let at = -Infinity;
  let due = null;
  const speak = () => {
    const words = due();
    due = null;
    if (words == null) return;
    at = Date.now();
    element.replaceChildren(words); // anew, also if it is the same text as before
  };
  return {
    say(words) {
      if (!due) setTimeout(speak, Math.max(pace.settles, at + pace.pause - Date.now()));
      due = words;
    },
    hush() {
      if (element.firstChild) element.replaceChildren();
    },
  };
}

// The keys of the annotation page, and the focus, which moves at once: a message of the server could come after the
// first letters of a text, which would then be keys.
{
  const field = () => document.querySelector("[data-change] input, input[data-change]");
  const stepPanel = () => document.querySelector("[data-step]");
  const typing = (element) => element.closest("input, textarea, select, [contenteditable]");
  const leaveField = () => stepPanel().focus({ preventScroll: true });
  // A keyboard on the screen would cover the candidates.
  const byTouch = () => matchMedia("(pointer: coarse)").matches;

  // What goes to the server with an action: the step that is shown, and its text. The server leaves out actions of a
  // step that is over, such as a second press of a key.
  window.shown = () => [Number(stepPanel().dataset.step), field().value];

  // After an action that the server refused: the next step, and perhaps back to the text, unless the person went
  // elsewhere.
  window.refused = (step, toText) => {
    stepPanel().dataset.step = step;
    if (toText && [document.body, stepPanel()].includes(document.activeElement)) field().focus();
  };

  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-name]") && !byTouch()) field().focus();
    if (event.target.closest("[data-leaves]")) leaveField();
  });

  // One key clicks the element that names it in aria-keyshortcuts, but not while a person types, or holds a modifier.
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing || event.keyCode === 229) return;
    if (typing(event.target)) {
      if (event.key === "Escape") event.target.blur();
      if (event.key === "Enter" && event.target === field()) leaveField();
      return;
    }
    if (event.repeat || !/^[a-z1-9]$/i.test(event.key)) return;
    // Also while the candidates are absent: what follows a number is a text.
    if (/[1-9]/.test(event.key)) {
      event.preventDefault();
      field().focus();
    }
    const found = document.querySelector(`[aria-keyshortcuts="${event.key.toLowerCase()}"]`);
    if (!found || found.disabled) return;
    event.preventDefault();
    found.click();
  });
}

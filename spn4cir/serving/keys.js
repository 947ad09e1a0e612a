// The keys of the annotation page: one key clicks the element that names it in aria-keyshortcuts, but not while a
// person types, or holds a modifier. Focus moves at once, so that the first letters of a text are never taken as keys.
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select, [contenteditable]");
  if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
  if (typing) {
    if (event.key === "Escape") typing.blur();
    return;
  }
  if (event.repeat || !/^[a-z1-9]$/i.test(event.key)) return;
  const found = document.querySelector(`[aria-keyshortcuts="${event.key.toLowerCase()}"]`);
  if (!found || found.disabled) return;
  event.preventDefault();
  found.click();
  if (/[1-9]/.test(event.key)) document.querySelector("[data-change] input, input[data-change]")?.focus();
});

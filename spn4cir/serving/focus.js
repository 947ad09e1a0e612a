// The focus of the search page, which moves at once: a message of the server could come after the first letters of a
// text. The text is selected, so that typing replaces it.
{
  const toText = () => {
    const field = document.querySelector("[data-change] input, input[data-change]");
    field.focus();
    field.select();
  };
  let afterDialog = false;

  document.addEventListener("click", (event) => {
    const pressed = event.target.closest("[data-chooses]");
    afterDialog = Boolean(pressed?.closest("[role=dialog]"));
    if (pressed && !afterDialog) toText();
  });
  // A dialog keeps the focus until it is hidden.
  window.dialogHidden = () => {
    if (afterDialog) toText();
    afterDialog = false;
  };
  // An upload ends at any time.
  window.uploadShown = () => {
    if (!document.activeElement.closest("input, textarea")) toText();
  };
}

// The YAML editor: Tab indents, Escape lets go, and a problem's line can be jumped to.
const area = document.getElementById("spec");
let released = false;

area.addEventListener("keydown", (event) => {
  if (event.key === "Escape") released = true;
  else if (event.key === "Tab" && !event.shiftKey && !released) {
    event.preventDefault();
    area.setRangeText("  ", area.selectionStart, area.selectionEnd, "end");
  } else released = released && event.key === "Shift";
});
area.addEventListener("blur", () => (released = false));

for (const link of document.querySelectorAll("a[data-line]"))
  link.addEventListener("click", (event) => {
    event.preventDefault();
    const lines = area.value.split("\n");
    const line = Number(link.dataset.line) - 1;
    const start = lines.slice(0, line).join("\n").length + (line > 0 ? 1 : 0);
    area.focus();
    area.setSelectionRange(start, start + lines[line].length);
    area.scrollTop = (line / lines.length) * area.scrollHeight - area.clientHeight / 3;
  });

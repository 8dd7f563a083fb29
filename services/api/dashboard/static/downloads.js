// A chart as a picture or a table.
function save(name, address) {
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
}

export function savePicture(name, title, canvas, colours) {
  const [scale, margin] = [canvas.width / canvas.clientWidth, 34];
  const picture = document.createElement("canvas");
  picture.width = canvas.width;
  picture.height = canvas.height + margin * scale;
  const context = picture.getContext("2d");
  context.fillStyle = colours.surface;
  context.fillRect(0, 0, picture.width, picture.height);
  context.fillStyle = colours.ink;
  context.font = `600 ${14 * scale}px ${getComputedStyle(document.body).fontFamily}`;
  context.fillText(title, 10 * scale, 22 * scale);
  context.drawImage(canvas, 0, margin * scale);
  save(`${name}.png`, picture.toDataURL("image/png"));
}

const cell = (value) => (/[",\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : value);

/** The table of `rows` under `columns`, with a line of names. */
export function saveTable(name, columns, rows) {
  const lines = [columns, ...rows].map((row) => row.map((value) => cell(value ?? "")).join(","));
  save(`${name}.csv`, `data:text/csv;charset=utf-8,${encodeURIComponent(`${lines.join("\n")}\n`)}`);
}

// The API explorer: find an operation, and try those that only look.
const MOST = 100_000; // characters of an answer; a stream of events has no end
const operations = [...document.querySelectorAll(".operation")];
const find = document.getElementById("find");

find.closest("label").hidden = false;
find.addEventListener("input", () => {
  const words = find.value.toLowerCase().split(/\s+/);
  for (const one of operations) one.hidden = !words.every((word) => one.dataset.text.includes(word));
  for (const chapter of document.querySelectorAll(".chapter"))
    chapter.hidden = operations.every((one) => one.hidden || !chapter.contains(one));
  document.getElementById("found").textContent = find.value ? `${operations.filter((one) => !one.hidden).length} found` : "";
});

function addressOf(form) {
  let path = form.dataset.path;
  const query = new URLSearchParams();
  for (const { name, value, dataset } of form.querySelectorAll("input"))
    if (dataset.in === "path") path = path.replace(`{${name}}`, encodeURIComponent(value));
    else if (value) query.set(name, value);
  if (path.endsWith("/events") && !query.has("follow")) query.set("follow", "false"); // else it has no end
  return query.size ? `${path}?${query}` : path;
}

async function beginningOf(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (text.length < MOST) {
    const { value, done } = await reader.read();
    if (done) return text;
    text += value;
  }
  await reader.cancel();
  return `${text.slice(0, MOST)}…`;
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

for (const form of document.querySelectorAll(".try")) {
  form.hidden = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const place = form.nextElementSibling;
    const address = addressOf(form);
    place.hidden = false;
    const [said, shown] = place.children;
    said.textContent = `GET ${address} …`;
    shown.textContent = "";
    try {
      const answer = await fetch(address);
      said.textContent = `GET ${address}: ${answer.status} ${answer.statusText}`;
      shown.textContent = pretty(await beginningOf(answer));
    } catch (error) {
      said.textContent = `GET ${address}: ${error.message}`;
    }
  });
}

if (location.hash) document.getElementById(location.hash.slice(1))?.setAttribute("open", "");

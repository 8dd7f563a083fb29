// An episode while it is played: each step as a card, with what is known of its state beside it.
const root = document.getElementById("watch");
const list = document.getElementById("watch-steps");
const said = document.getElementById("watch-state");
let source = null;
let actions = new Map(); // of the newest state: action -> its row

function part(tag, className, text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.textContent = text;
  return made;
}

const percent = (share) => `${(100 * share).toFixed(0)} %`;
const figure = (value) => Number(value.toPrecision(3)).toString();

function known(seen) {
  const side = part("div", "known");
  actions = new Map();
  if (!seen) {
    side.append(part("p", "soft", "Never seen in the stored rollouts."));
    return side;
  }
  const state = seen.state;
  const where = seen.of_task ? "" : " with other tasks";
  const best = state.best_action === null ? "" : ` Best action so far: ${state.best_action}.`;
  side.append(part("p", "soft", `${state.visits} visits${where}, mean return ${figure(state.return_mean)}.${best}`));
  const rows = part("ul", "known-actions");
  for (const one of state.actions.slice(0, 6)) {
    const row = part("li");
    row.append(part("span", "action", one.action || "no action"), part("span", "num soft", `${percent(one.share)}, return ${figure(one.return_mean)}`));
    rows.append(row);
    actions.set(one.action, row);
  }
  side.append(rows);
  return side;
}

function inside(title, text) {
  const made = part("details");
  made.append(part("summary", "", title), part("pre", "", text));
  return made;
}

const handlers = {
  waiting(data) {
    said.textContent = `Waiting: ${data.message}.`;
  },
  began(data) {
    document.getElementById("watch-task").textContent = data.task || "An episode without a task";
    said.textContent = `It plays; at most ${data.max_turns} steps.`;
    list.replaceChildren();
  },
  state(data) {
    const item = part("li", "watch-step");
    const main = part("div", "watch-main");
    main.append(part("p", "said", data.observation || data.anchor), part("p", "chosen soft", "…"));
    main.append(inside("Prompt", data.prompt));
    item.append(part("span", "n num", String(data.step_index)), main, known(data.seen));
    list.append(item);
  },
  step(data) {
    const item = list.lastElementChild;
    if (!item) return;
    const chosen = item.querySelector(".chosen");
    const reward = data.reward ? `reward ${figure(data.reward)}` : "";
    chosen.className = "chosen";
    chosen.replaceChildren(part("span", data.action_valid ? "action" : "action invalid", data.action || "no action"), part("span", "num soft", reward));
    if (data.reply.trim() !== data.action) item.querySelector("details").before(inside("Reply", data.reply));
    actions.get(data.action)?.classList.add("taken");
  },
  ended(data) {
    const how = data.won ? "Won" : data.out_of_turns ? "Out of turns" : "Not won";
    over(`${how} after ${data.steps} steps, return ${figure(data.return_sum)}.`, data.won ? "won" : "lost");
  },
  failed(data) {
    over(`It could not be played to its end: ${data.message}.`, "lost");
  },
};

function over(sentence, outcome) {
  said.textContent = sentence;
  said.className = `outcome ${outcome}`;
  source.close();
}

source = new EventSource(root.dataset.stream);
for (const [name, handle] of Object.entries(handlers))
  source.addEventListener(name, (event) => handle(JSON.parse(event.data).data));
source.addEventListener("error", () => {
  if (source.readyState === EventSource.CLOSED) said.textContent = "This episode is over and forgotten. Watch another one.";
});

// Choosing a state shows its actions beside the graph; arrow keys go from state to state.
const graph = document.getElementById("graph");
const nodes = [...graph.querySelectorAll("a.node")];
const panel = document.getElementById("states");

function choose(state, { scroll = false } = {}) {
  const node = nodes.find((one) => one.dataset.state === state);
  for (const one of nodes) one.classList.toggle("chosen", one === node);
  for (const card of panel.children) card.classList.toggle("chosen", card.id === `state-${state}`);
  for (const mark of graph.querySelectorAll("[data-source]"))
    mark.classList.toggle("on", mark.dataset.source === state || mark.dataset.target === state);
  for (const label of graph.querySelectorAll(".labels text")) label.classList.toggle("on", label.dataset.source === state);
  graph.classList.add("chosen");
  panel.classList.add("ready");
  panel.scrollTop = 0;
  if (scroll) node?.scrollIntoView({ block: "nearest", inline: "center" });
}

document.addEventListener("click", (event) => {
  const link = event.target.closest('a[href^="#state-"]');
  if (!link) return;
  event.preventDefault();
  const state = link.getAttribute("href").slice("#state-".length);
  history.replaceState(null, "", `#state-${state}`);
  choose(state, { scroll: !graph.contains(link) });
  if (!graph.contains(link)) nodes.find((one) => one.dataset.state === state)?.focus({ preventScroll: true });
});

graph.addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  const at = nodes.indexOf(document.activeElement);
  if (!step || at < 0) return;
  event.preventDefault();
  nodes[(at + step + nodes.length) % nodes.length].focus();
});

document.querySelector("select[data-go]").addEventListener("change", (event) => location.assign(event.target.value));

const wanted = location.hash.startsWith("#state-") ? location.hash.slice("#state-".length) : null;
choose(wanted ?? graph.dataset.first, { scroll: wanted !== null });

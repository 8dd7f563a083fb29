// Steps in the same state light up together; a link to a step opens it.
const steps = [...document.querySelectorAll(".step")];

function light(state) {
  for (const step of steps) step.classList.toggle("same", state !== null && step.dataset.state === state);
}

const board = document.querySelector(".episodes");
const stateOf = (event) => event.target.closest(".step")?.dataset.state ?? null;
board.addEventListener("pointerover", (event) => light(stateOf(event)));
board.addEventListener("focusin", (event) => light(stateOf(event)));
board.addEventListener("pointerleave", () => light(null));

function openTarget() {
  const target = document.getElementById(location.hash.slice(1));
  if (!target?.classList.contains("step")) return;
  target.querySelector("details").open = true;
  target.scrollIntoView({ block: "center", inline: "center" });
  target.querySelector("summary").focus({ preventScroll: true });
}

window.addEventListener("hashchange", openTarget);
openTarget();

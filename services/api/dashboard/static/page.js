// On every page: the theme switch, questions before what can't be undone, and times that keep telling the truth.
const NAMES = { "": "Auto", light: "Light", dark: "Dark" };
const NEXT = { "": "light", light: "dark", dark: "" };

function showTheme(button, theme) {
  button.querySelector(".theme-name").textContent = NAMES[theme];
  button.setAttribute("aria-label", `Theme: ${theme || "follows the system (auto)"}`);
}

const button = document.getElementById("theme");
const root = document.documentElement;
showTheme(button, root.dataset.theme ?? "");
button.addEventListener("click", () => {
  const theme = NEXT[root.dataset.theme ?? ""];
  if (theme) {
    root.dataset.theme = theme;
    localStorage.setItem("theme", theme);
  } else {
    delete root.dataset.theme;
    localStorage.removeItem("theme");
  }
  showTheme(button, theme);
  document.dispatchEvent(new Event("theme"));
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.dispatchEvent(new Event("theme")));

const dialog = document.getElementById("confirm");
document.addEventListener("submit", (event) => {
  const { target: form, submitter } = event;
  const asked = submitter?.dataset.confirm ? submitter.dataset : form.dataset;
  const posts = (submitter?.hasAttribute("formmethod") ? submitter.formMethod : form.method) === "post";
  if (form.dataset.sent) event.preventDefault(); // a second click sends nothing twice
  else if (asked.confirm && !form.dataset.agreed) {
    event.preventDefault();
    document.getElementById("confirm-text").textContent = asked.confirm;
    document.getElementById("confirm-yes").textContent = asked.yes;
    dialog.returnValue = "";
    dialog.onclose = () => {
      if (dialog.returnValue !== "yes") return;
      form.dataset.agreed = "yes";
      form.requestSubmit(submitter);
    };
    dialog.showModal();
  } else if (posts) form.dataset.sent = "yes";
});

window.addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) {
    delete form.dataset.sent;
    delete form.dataset.agreed;
  }
});

function ago(seconds) {
  for (const [unit, length] of [["d", 86400], ["h", 3600], ["min", 60]])
    if (seconds >= length) return `${Math.floor(seconds / length)} ${unit} ago`;
  return "just now";
}

setInterval(() => {
  for (const time of document.querySelectorAll("time[data-ago]"))
    time.textContent = ago((Date.now() - Date.parse(time.dateTime)) / 1000);
}, 15_000);

// Whatever goes wrong is kept on the page itself, where a person or a test can see it.
const root = document.documentElement;

function recordError(message) {
  const earlier = root.dataset.errors ? `${root.dataset.errors}\n` : "";
  root.dataset.errors = earlier + String(message).slice(0, 400);
}

window.addEventListener("error", (event) => recordError(event.message));
window.addEventListener("unhandledrejection", (event) => recordError(event.reason));

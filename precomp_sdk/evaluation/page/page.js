(() => {
  const tip = document.getElementById("tip");
  const show = (event) => {
    const mark = event.target.closest("[data-tip]");
    if (!mark) { tip.style.display = "none"; return; }
    tip.textContent = mark.dataset.tip;
    tip.style.display = "block";
    const left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
    const above = event.clientY - tip.offsetHeight - 12;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${above > 0 ? above : event.clientY + 16}px`;
  };
  for (const kind of ["pointermove", "pointerdown"]) document.addEventListener(kind, show);
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-curve]");
    if (!button) return;
    const shown = button.getAttribute("aria-pressed") === "false";
    button.setAttribute("aria-pressed", String(shown));
    const marks = button.closest("figure").querySelectorAll("g[data-curve]");
    for (const mark of marks) if (mark.dataset.curve === button.dataset.curve) mark.classList.toggle("hidden", !shown);
  });
})();

// Asks for the list every two seconds and shows it when it changed; a reload would lose the
// keyboard's place and the scroll position.
setInterval(async () => {
  let page;
  try {
    const answer = await fetch("/");
    if (!answer.ok) return;
    page = new DOMParser().parseFromString(await answer.text(), "text/html");
  } catch {
    return; // stopped or being restarted: the list stays readable
  }
  const shown = document.querySelector("main");
  const latest = page.querySelector("main");
  if (shown.innerHTML === latest.innerHTML) return;
  const focused = document.activeElement?.closest("main a")?.getAttribute("href");
  shown.replaceWith(latest);
  document.title = page.title;
  if (focused) latest.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
}, 2000);

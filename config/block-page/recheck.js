(function () {
  var note = document.getElementById("recheck");
  if (!note || !window.fetch) return;
  var wait = 15, last = Date.now(), timer;
  function look() {
    last = Date.now();
    fetch(location.href, { method: "HEAD", cache: "no-store", redirect: "manual" }).then(function (answer) {
      if (!answer.headers.has("beian-verdict")) location.replace(location.pathname + location.search);
    }).catch(function () {}).then(plan);
  }
  function plan() {
    clearTimeout(timer);
    timer = setTimeout(function () { if (document.hidden) plan(); else look(); }, wait * 1000);
    wait = Math.min(wait * 1.5, 300);
  }
  document.addEventListener("visibilitychange", function () {
    if (!document.hidden && Date.now() - last > 15000) look();
  });
  note.hidden = false;
  plan();
})();

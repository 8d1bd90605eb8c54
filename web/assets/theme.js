// Runs before the first paint, so that a chosen theme does not flash. Without a choice the system's theme holds.
(() => {
  try {
    const theme = localStorage.getItem('barrage.theme');
    if (theme === 'dark' || theme === 'light') document.documentElement.dataset.theme = theme;
  } catch {
    // Storage is blocked: follow the system.
  }
})();

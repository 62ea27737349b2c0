"""Opens pages in Chromium, in frames of several widths, and runs a probe in them."""

from __future__ import annotations

import html
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
from typing import Any, Optional

ROOT = pathlib.Path(__file__).resolve().parents[2]
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
_FOUND = re.compile(r'<pre id="found">(.*?)</pre>', re.DOTALL)
_POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')


def chromium() -> Optional[str]:
    """The browser's path, or None where there is none."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


def axe() -> Optional[str]:
    """The script of axe-core, or None: `npm install --no-save axe-core` brings it.

    TFL_AXE_CORE names the file where it is elsewhere.
    """
    given = os.environ.get("TFL_AXE_CORE")
    path = pathlib.Path(given or ROOT / "node_modules" / "axe-core" / "axe.min.js")
    return path.read_text(encoding="utf-8") if path.exists() else None


def _dumped(address: str, *flags: str) -> str:
    browser = chromium()
    if browser is None:
        raise RuntimeError("there is no Chromium")
    with tempfile.TemporaryDirectory() as profile:
        done = subprocess.run(
            [browser, *_FLAGS, f"--user-data-dir={profile}", *flags, address],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
    return done.stdout


def dom(address: str, milliseconds: int = 3000) -> str:
    """The page's document once its scripts have run, with its own policy.

    Args:
      address: of the page.
      milliseconds: how long the page's clock runs; it does not run in real time.
    """
    return _dumped(address, f"--virtual-time-budget={milliseconds}", "--dump-dom")


def probed(
    pages: dict[str, str], probe: str, *, widths: tuple[int, ...], dark: bool = False
) -> dict[str, Any]:
    """What a probe finds in each page at each width.

    Args:
      pages: content by name. The copies have no policy, or the probe would not run.
      probe: body of an async function, whose value is JSON.
      widths: of the frames, in pixels.
      dark: whether the browser prefers dark pages.

    Returns:
      Values by "name width".
    """
    frames, scripts = [], axe() or ""
    for name, content in pages.items():
        for width in widths:
            key = f"{name} {width}"
            call = (
                f"<script>{scripts}</script><script>(async () => {{ try {{"
                f"parent.told({json.dumps(key)}, await (async () => {{ {probe} }})());"
                f"}} catch (error) {{ parent.told({json.dumps(key)}, String(error)); }}"
                "})();</script></body>"
            )
            copy = _POLICY.sub("", content).replace("</body>", call)
            frames.append(
                f'<iframe width="{width}" height="900" style="border:0" '
                f'srcdoc="{html.escape(copy)}"></iframe>'
            )
    wrapper = (
        "<!DOCTYPE html><html><body><pre id='found'>{}</pre><script>"
        "const found = {}; window.told = (key, value) => { found[key] = value; "
        "document.getElementById('found').textContent = JSON.stringify(found); };"
        f"</script>{''.join(frames)}</body></html>"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "frames.html"
        path.write_text(wrapper, encoding="utf-8")
        scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
        content = _dumped(
            path.as_uri(),
            scheme,
            "--window-size=1400,1000",
            "--virtual-time-budget=30000",
            "--dump-dom",
        )
    (text,) = _FOUND.findall(content)
    return json.loads(html.unescape(text))

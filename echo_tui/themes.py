"""The control room's own look: greys, and one accent. Warning and error colours appear only with a reason."""

from __future__ import annotations

from textual.theme import Theme

DARK = Theme(
    name="echo-dark",
    primary="#6fb3d2",
    secondary="#8aa4b4",
    accent="#6fb3d2",
    foreground="#cdd3d8",
    background="#101418",
    surface="#151a1f",
    panel="#1d242b",
    success="#7fb58a",
    warning="#e0af5c",
    error="#e0736f",
    dark=True,
    variables={"text-muted": "#7d8891", "block-cursor-text-style": "none", "input-selection-background": "#6fb3d2 30%"},
)
LIGHT = Theme(
    name="echo-light",
    primary="#1f6f94",
    secondary="#4b6573",
    accent="#1f6f94",
    foreground="#22292e",
    background="#fafbfb",
    surface="#f1f3f4",
    panel="#e3e7ea",
    success="#2f7d43",
    warning="#9a6400",
    error="#b3322d",
    dark=False,
    variables={"text-muted": "#68737a", "block-cursor-text-style": "none"},
)

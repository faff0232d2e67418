from __future__ import annotations

from echo_core.agents.cli import main

if __name__ == "__main__":
    main()

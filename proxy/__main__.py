"""`python -m proxy`: the same as the command `openai-proxy`."""

from proxy.cli.main import main

if __name__ == "__main__":
    main()

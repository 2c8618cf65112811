"""The agent's commands, one module each; they parse options, call one function, and print."""

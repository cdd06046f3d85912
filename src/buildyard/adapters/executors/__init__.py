"""Executors: how a worker runs the commands of a job on this machine.

`process` runs them with the host's own tools, `sandbox` inside bubblewrap, `dummy` plays scripted outcomes.

A step's script reaches its shell as a file. The worker writes the script somewhere in the workspace's folder and runs
`("bash", "--noprofile", "--norc", "-e", PATH)`, with PATH as the commands see it (`inside`) or relative to the
command's `cwd`. `process` and `sandbox` need no agreement for that; `dummy` reads and interprets the same file.

Every process of a job bears two marks that its descendants inherit: `BUILDYARD_MARKER` in its environment and a tag in
an unused resource limit (see `trees`). By them a tree is ended whole, however its members detached themselves.
"""

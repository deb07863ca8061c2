"""Breaking a whole Quotestream on purpose, and proving afterwards that nothing was lost, doubled or over the limit.

In:  options, and a seed that gives the same faults again.
Out: a stack of its own on free ports, orders over HTTP, a history of them, faults, and a report; exit code 0 if clean.

A run's way: `schedule` draws what goes wrong, `system` is the stack, `faults` does it to the stack, with `disk` and, of
several NATS servers, `cluster` and `network`; `load` sends orders meanwhile, `sampling` looks at the limit,
`health_watch` asks the processes how they are, and `recovery` measures how long it takes to come back; then
`verification` has `logs` read what the broker holds, `clients` what was answered, and `checker` compare all of it, and
has it audited; `report` sums up. `schedule`, `recovery` and `checker` are pure. `run` is all of it, and `demo` a short
run to be watched.
"""

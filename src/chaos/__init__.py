"""Breaks a whole Quotestream on purpose, and proves afterwards that nothing was lost, doubled or over the limit.

In:  options, and a seed; the same seed gives the same faults.
Out: a separate stack on free ports, orders over HTTP and their history, faults, and a report; exit code 0 if clean.

`run` carries out a run: `schedule` draws the faults, `system` is the stack, and `faults` injects the faults, with the
help of `disk`, `store_damage`, `service_proxies` and `clocks`, and for several NATS servers `cluster` and `network`.
Meanwhile `load` sends orders, `sampling` checks the limit, `definer` changes instruments, `attacker` misuses readers'
keys, `health_watch` polls the processes' health, and `recovery` measures how long they take to recover. Afterwards
`verification` reads the market log (`logs`) and the orders' outcomes (`clients`), compares them (`checker`), and has
everything audited; `report` sums up. `schedule`, `attacks`, `recovery` and `checker` are pure. `demo` is a short run to
watch.
"""

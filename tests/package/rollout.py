"""What the Deployment controller does with a rendered manifest, computed by its rules.

A pod is what the agent's probes say of it: ready if it streams or is a standby (`src/admin/mod.rs`), and never ready if
it cannot start. `rollout` answers what `kubectl rollout status` and `helm --wait` would see.
"""


def number(value, replicas, up):
    """A count or a percentage of the replicas, rounded up for maxSurge and down for maxUnavailable."""
    if isinstance(value, int):
        return value
    share = int(value.rstrip("%")) * replicas
    return -(-share // 100) if up else share // 100


def rollout(deployment, starts=True, standby_is_ready=True):
    """Whether the rollout of a new version ends, and the least number of ready pods on the way."""
    replicas = deployment["spec"]["replicas"]
    rule = deployment["spec"]["strategy"]["rollingUpdate"]
    surge = number(rule["maxSurge"], replicas, True)
    unavailable = number(rule["maxUnavailable"], replicas, False)
    if surge == 0 and unavailable == 0:
        raise AssertionError("Kubernetes refuses maxSurge and maxUnavailable that are both 0")
    old, new, fewest = replicas, 0, replicas

    def ready():
        """Ready pods of the old and the new version: an old pod keeps the slot while there is one."""
        if standby_is_ready:
            return old, new if starts else 0
        holds_old = min(old, 1)
        return holds_old, min(new, 1 - holds_old) if starts else 0

    for _ in range(4 * replicas + 4):
        before = (old, new)
        new += max(0, min(replicas - new, replicas + surge - old - new))
        # Old pods that are not ready go first; ready ones only as far as enough ready ones remain.
        spare = sum(ready()) - (replicas - unavailable)
        unready_old = old - ready()[0]
        old -= min(old, unready_old + max(0, spare))
        fewest = min(fewest, sum(ready()))
        if (old, new) == before:
            break
    return old == 0 and new == replicas and sum(ready()) == replicas, fewest

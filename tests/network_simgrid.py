"""Run by the system's Python, which has SimGrid: a case as JSON on stdin, finish times as JSON on stdout.

SimGrid's model CM02 without latencies, windows and cross traffic is plain max-min sharing, implemented by others.
"""

import json
import os
import sys

from simgrid import Actor, Engine, LinkInRoute, Mailbox, NetZone, this_actor

CONFIG = ("network/model:CM02", "network/crosstraffic:0", "network/TCP-gamma:0", "network/weight-S:0")


def solve(case):
    """Finish time of each flow, seconds; each has a pair of hosts of its own, links are shared."""
    engine = Engine(["cases", "--log=root.thres:error", *(f"--cfg={setting}" for setting in CONFIG)])
    zone = NetZone.create_full_zone("zone")
    links = [zone.create_link(f"link{i}", float(bandwidth)).seal() for i, bandwidth in enumerate(case["capacity"])]
    hosts = [[zone.create_host(f"{end}{f}", 1e9).seal() for end in ("from", "to")] for f in range(len(case["paths"]))]
    for (source, destination), path in zip(hosts, case["paths"], strict=True):
        over = [LinkInRoute(links[i]) for i in path]
        zone.add_route(source.netpoint, destination.netpoint, None, None, over, False)
    zone.seal()
    finish = [0.0] * len(hosts)

    def sender(flow):
        this_actor.sleep_for(case["start_s"][flow])
        Mailbox.by_name(f"box{flow}").put(flow, int(case["bytes"][flow]))

    def receiver(flow):
        Mailbox.by_name(f"box{flow}").get()
        finish[flow] = engine.clock

    for flow, (source, destination) in enumerate(hosts):
        Actor.create(f"send{flow}", source, sender, flow)
        Actor.create(f"receive{flow}", destination, receiver, flow)
    engine.run()
    return finish


if __name__ == "__main__":
    answer = os.dup(1)
    os.dup2(2, 1)  # SimGrid logs to stdout
    os.write(answer, json.dumps(solve(json.load(sys.stdin))).encode())

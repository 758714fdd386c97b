"""V1 to V10 of a job that has ended. Each function yields what is wrong."""
import dataclasses
import os
import re
import signal
import stat
import time

import checkpoints
import processes
from job import ENDS, GRACE, TAG

EVERY = 10
CODES = {*range(64), 64, 65, 69, 70, 71, 74, 75, 76, 77, 78, 93, 124, 126, 127,
         *range(129, 193)}
KEYS = {"schema": int, "job": str, "run": str, "host": str, "ranks": int,
        "state": str, "generation": int, "restarts": list,
        "rank_states": list, "last_step": int, "checkpoint_step": int,
        "seconds": (int, float), "version": str}


@dataclasses.dataclass
class Expected:
    """How a job must have ended."""
    state: str = "SUCCEEDED"
    code: int = 0
    steps: int = 0  # of the final checkpoint; 0: it may be any
    restarts: tuple = (0, 0)  # least and most
    budget: int = 3
    victims: tuple = ()  # ranks, one of which the first restart must name
    cause: dict = dataclasses.field(default_factory=dict)  # fields of it
    killed: bool = False  # the launcher was
    told: bool = False  # and may have told an end before
    left: float = GRACE + 2  # seconds that processes may live on
    trained: bool = True  # the program is catena-train


def none_alive(job, expected, _):
    """V1: also measures how long it took."""
    begin = job.end if job.end is not None else time.monotonic()
    while True:
        left = processes.tagged(TAG, job.tag)
        if not left:
            job.empty = time.monotonic()
            return
        if time.monotonic() - begin > expected.left:
            break
        time.sleep(0.01)
    for process in left:
        rank, generation = job.known.get(process, ("?", "?"))
        yield (f"V1: process {process} (rank {rank} of generation "
               f"{generation}, {processes.state(process)}) lives "
               f"{expected.left:.3g} s after the launcher's end")
    job.kill()


def nothing_left(job, expected, _):
    """V2. Where launcher, agents and ranks were killed while ranks met, nobody
    is left to remove their names: the next start does, after which this is
    asked for those of all launchers of the trial."""
    listening = job.listening()
    for inode, port in job.inodes.items():
        if inode in listening:
            yield f"V2: port {port} of the job still listens"
    for name in os.listdir("/dev/shm"):
        if not expected.killed and any(
                identity and identity in name for identity in job.ids):
            yield f"V2: /dev/shm/{name} is left"
    for path in job.temporary.rglob("*"):
        yield f"V2: {path} is left"
    for path in job.run.rglob("*"):
        if stat.S_ISSOCK(path.lstat().st_mode):
            yield f"V2: the socket {path} is left"


def result_says(job, expected, _):
    """V3, and how the job must have ended."""
    code, result = job.exit_code(), job.result()
    if expected.killed:
        if result.get("state") in ENDS and not expected.told:
            yield ("V3: the launcher was killed, and job.json says "
                   f"{result['state']}")
        return
    if code not in CODES:
        yield f"V3: exit code {code} is none of the table"
    for key, kind in KEYS.items():
        if not isinstance(result.get(key), kind):
            yield f"V3: job.json has no sound {key}: {result.get(key)!r}"
    if result.get("exit_code") != code:
        yield (f"V3: the launcher's code is {code}, job.json says "
               f"{result.get('exit_code')}")
    if (result.get("state"), code) != (expected.state, expected.code):
        yield (f"the job ended {result.get('state')} with {code}, not "
               f"{expected.state} with {expected.code}: {job.last_words()}")


def cause_named(job, expected, _):
    """V4."""
    result = job.result()
    causes = result.get("restarts", [])
    if result.get("first_failure") and not causes:
        causes = [result["first_failure"]]
    if not causes or not (expected.victims or expected.cause):
        return
    first = causes[0]
    if expected.victims and first["rank"] not in expected.victims:
        yield (f"V4: rank {first['rank']} is blamed, not one of "
               f"{list(expected.victims)}: {first['text']}")
    for key, value in expected.cause.items():
        if first.get(key) != value:
            yield (f"V4: {key} of the first cause is {first.get(key)!r}, "
                   f"not {value!r}")
    hosts = ([host.name for host in job.network.hosts] if job.network
             else [result["host"]])
    if first["rank"] >= 0 and first["host"] not in hosts:
        yield f"V4: the host is {first['host']}, not {' or '.join(hosts)}"


def generations_apart(job, _, __):
    """V5: seen while it ran; and each rank's log knows each one once."""
    for path in (job.run / "logs").glob("rank-*.log"):
        text = processes.read(path).decode(errors="replace")
        if path.name == "rank-0.log":
            text = text[job.rank_offset:]
            numbers = list(map(int, re.findall(
                r"^-- generation (\d+), ", text, re.M)))
            if numbers != list(range(1, len(numbers) + 1)):
                yield f"V5: {path} tells of generations {numbers}"
    yield from job.problems


def same_bits(job, expected, reference):
    """V6: every checkpoint there is, and every step's loss."""
    if not expected.trained:
        return
    there = job.valid_steps()
    for step in there & set(reference.hashes):
        if checkpoints.state_hash(
                checkpoints.folder(job.run, step)) != reference.hashes[step]:
            yield f"V6: the checkpoint of step {step} has other bits"
    if expected.state == "SUCCEEDED" and not expected.killed \
            and expected.steps not in there:
        yield f"V6: there is no checkpoint of step {expected.steps}: {there}"
    job.metrics.read()
    losses = job.metrics.losses
    if [step for step, _, _ in losses] != list(range(1, len(losses) + 1)):
        yield "V6: metrics.jsonl does not hold each step once"
    for step, loss, tokens in losses:
        if reference.losses.get(step) != (loss, tokens):
            yield (f"V6: step {step} has loss {loss} of {tokens} tokens, not "
                   f"{reference.losses.get(step)}")
            return


def resumed_steps(job):
    """Of each generation: the step it went on from; 0: from the beginning;
    None where it did not come so far."""
    found = {}
    parts = re.split(r"^-- generation (\d+), .*$", job.rank_log(), flags=re.M)
    for number, text in zip(parts[1::2], parts[2::2]):
        resumed = re.search(r"resumed  .*/step-(\d+),", text)
        said = "step " in text
        found[int(number)] = int(resumed.group(1)) if resumed else (
            0 if said else None)
    return found


def few_steps_repeated(job, expected, _):
    """V7. A checkpoint that was being written when the ranks died counts as
    not there, and the steps taken meanwhile as not repeated."""
    if not expected.trained:
        return
    resumed = resumed_steps(job)
    furthest = {0: job.reached_before, **{
        number: generation.furthest - (
            max(0, generation.furthest - job.saving)
            if job.saving is not None else 0)
        for number, generation in job.generations.items()}}
    for number, reached in furthest.items():
        step = resumed.get(number + 1)
        if step is not None and reached - step > job.repeatable:
            yield (f"V7: generation {number} took step {reached}, and the "
                   f"next went on from {step}")


def newest_chosen(job, expected, _):
    """V8; that one is always there was seen while it ran."""
    if not expected.trained:
        return
    for number, step in resumed_steps(job).items():
        generation = job.generations.get(number)
        if step is None or generation is None:
            continue
        newest = max(generation.saved, default=0)
        if step != newest:
            yield (f"V8: generation {number} went on from {step}, and the "
                   f"newest valid one was {newest}")
    if expected.state == "SUCCEEDED" and not expected.killed:
        for path in checkpoints.unfinished(job.run):
            yield f"V8: {path} is left"


def restarts_within(job, expected, _):
    """V9."""
    result = job.result()
    count = len(result.get("restarts", []))
    least, most = expected.restarts
    if not least <= count <= most:
        yield f"{count} restarts, not {least} to {most}: {causes(result)}"
    if count > expected.budget:
        yield f"V9: {count} restarts of {expected.budget}"
    # Where no rank was started there is none.
    sound = {count + 1} if job.generations else {count + 1, 0}
    if not expected.killed and result.get("generation") not in sound:
        yield (f"V9: {count} restarts, and generation "
               f"{result.get('generation')}")


def causes(result):
    return "; ".join(f"rank {cause['rank']} {cause['text']}"
                     for cause in result.get("restarts", []))


def one_end(job, expected, _):
    """V10, and V9: nothing is said after the end."""
    pattern = rf"({'|'.join(ENDS)}) after \d+ restarts, code"
    lines = job.said().splitlines()
    ends = [i for i, line in enumerate(lines) if re.search(pattern, line)]
    if expected.killed:
        if ends and not expected.told:
            yield "V10: a launcher that was killed told an end"
    elif len(ends) != 1:
        yield f"V10: the launcher told {len(ends)} ends"
    elif any("restart" in line for line in lines[ends[0] + 1:]):
        yield "V9: a restart after the end"


def journal_in_order(job, expected, _):
    """V10: one end of the job, its last line, and one of each rank and
    generation."""
    lines = job.journal()
    ranks = [(line["generation"], line["rank"]) for line in lines
             if "rank" in line]
    if len(set(ranks)) != len(ranks):
        yield f"V10: the journal has a rank's end twice: {sorted(ranks)}"
    for name in ("seconds", "generation"):
        told = [line[name] for line in lines]
        if told != sorted(told):
            yield f"V10: {name} of the journal fall: {told}"
    ends = [line for line in lines if line.get("state") in ENDS]
    if expected.killed:
        if ends and not expected.told:
            yield "V10: the journal of a launcher that was killed has an end"
    elif ends != lines[-1:]:
        yield f"V10: the journal has {len(ends)} ends, or lines after one"
    elif (ends[0]["state"], ends[0]["exit_code"]) != (
            expected.state, expected.code):
        yield f"V10: the journal ends with {ends[0]}"


INVARIANTS = (none_alive, nothing_left, result_says, cause_named,
              generations_apart, same_bits, few_steps_repeated, newest_chosen,
              restarts_within, one_end, journal_in_order)


def check(job, expected, reference):
    """What does not hold, a line each."""
    found = []
    for invariant in INVARIANTS:
        try:
            found += invariant(job, expected, reference)
        except (OSError, KeyError, TypeError, ValueError) as error:
            found.append(f"{invariant.__name__}: {error!r}")
    return found


def timers(job):
    """Seconds from the fault."""
    if job.injected is None:
        return {}
    before = [g for g in job.generations.values() if g.begin < job.injected]
    if not before:
        return {}
    last = max(before, key=lambda g: g.number)
    following = job.generations.get(last.number + 1)
    found = {}
    if job.exit_code() == 128 + signal.SIGKILL:
        found["stop"] = job.since_fault(job.empty)
    elif following or job.result().get("state") != "SUCCEEDED":
        found["stop"] = job.since_fault(last.gone)
    if following:
        found["detect"] = job.noticed(
            r"rank \d+ (was|hung|ended|did not|waited for)|agent \d+ .*is gone")
        found["first"] = job.since_fault(following.first_step)
    return found

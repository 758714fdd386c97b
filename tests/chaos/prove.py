"""Shows that rows can fail: bugs of tests/planted are planted into a copy of the
sources, and a row must say which invariant they break."""
import importlib.machinery
import importlib.util
import subprocess

from trial import SOURCE

# Bug, row that meets it, what the row must say, and flags of run. Agents end
# their ranks where the launcher is gone; the seed has strangers who do not know
# the secret come first.
PROOFS = (
    ("15-no-signal-when-the-parent-dies", "G4", "V1: process",
     ("--trials", "4", "--agents", "0")),
    ("16-who-waits-is-judged", "G7", "V4: rank", ("--trials", "4")),
    ("16-ended-without-its-stack", "G7", "no libheld_up.so in the stack",
     ("--trials", "3")),
    ("17-accepts-before-authentication", "G18", "(host2) is gone",
     ("--trials", "1", "--seed", "4")))


def planted():
    """tests/planted/run, which has no name that can be imported."""
    loader = importlib.machinery.SourceFileLoader(
        "planted", str(SOURCE / "tests" / "planted" / "run"))
    spec = importlib.util.spec_from_loader("planted", loader)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def met(copy, bug, row, words, flags):
    """Whether the row says these words of the copy with the bug."""
    copy.log = copy.build / f"{bug.name}.log"
    try:
        if not copy.apply(bug):
            print(f"{bug.name}: does not apply")
            return False
        copy.make({"catena", "catena-train", "held_up"})
        told = subprocess.run(
            [copy.sources / "tests" / "chaos" / "run", copy.build, "--only",
             row, *flags, "--work", copy.build / "chaos"],
            stdout=subprocess.PIPE, text=True, check=False)
    finally:
        copy.renew()
    said = [line.strip() for line in told.stdout.splitlines()
            if words in line]
    caught = told.returncode == 1 and bool(said)
    print(f"{bug.name} ({bug.what}): {row} "
          + (f"says \"{said[0]}\"" if caught else "DOES NOT NOTICE IT:\n"
             + told.stdout), flush=True)
    return caught


def prove(build):
    """Returns an exit code: 0 if each bug is met."""
    module = planted()
    copy = module.Copy(build / "planted", 300)
    copy.renew()
    copy.configure()
    caught = [met(copy, module.Bug(module.HERE / f"{name}.patch"), *how)
              for name, *how in PROOFS]
    print(f"{sum(caught)} of {len(PROOFS)} bugs were met")
    return 0 if all(caught) else 1

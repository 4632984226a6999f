"""``danmpy import danm|whereabouts|host-local``: what other tools handed out becomes leases."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from danmpy.cli.args import ConfigOption, OutputOption, choose_network, read_cause, read_settings
from danmpy.cli.edge import BAD_REQUEST, DONE, FINDINGS, say
from danmpy.cli.output import Column, Format, Item, Listing, emit
from danmpy.clock import to_rfc3339
from danmpy.errors import IntentError

if TYPE_CHECKING:
    from danmpy.importing.hostlocal import StateFile
    from danmpy.importing.plan import Candidate, Known
    from danmpy.importing.values import Parsed
    from danmpy.intent.documents import Document
    from danmpy.ipam.adoptions import Outcome
    from danmpy.ipam.values import Lease
    from danmpy.settings import Settings

ROW_FIELDS: Final = (
    "verdict",
    "address",
    "network",
    "namespace",
    "pod",
    "pod_uid",
    "container_id",
    "interface",
    "node",
    "mode",
    "source",
    "where",
    "message",
)

STATE_MAX: Final = 4096
"""Bytes that are read of a state file: an id and an interface have a few dozen."""

FilesArgument = Annotated[
    list[str],
    typer.Argument(metavar="FILE", help="What kubectl get printed, YAML or JSON; - for stdin."),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be done, and change nothing.")
]
ReserveOption = Annotated[
    str | None,
    typer.Option(
        "--reserve-unowned",
        metavar="TEXT",
        help="Reserve what is in use without a known owner, for this reason.",
    ),
]
MapOption = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="NAME=NETWORK",
        help="Which network here a pool, a folder or DANM's Kind/namespace/name is; may be given "
        "more than once.",
    ),
]
ClaimsOption = Annotated[
    bool,
    typer.Option(
        "--claims",
        help="Keep the addresses of pods of StatefulSets, and of pods with a claim, for the next "
        "pod of that claim.",
    ),
]
EveryOption = Annotated[
    str | None,
    typer.Option("--network", metavar="NETWORK", help="The network of all that --map leaves."),
]


def danm(
    context: typer.Context,
    files: FilesArgument,
    mapped: MapOption = None,
    claims: ClaimsOption = False,
    dry_run: DryRunOption = False,
    reserve_unowned: ReserveOption = None,
    output: OutputOption = Format.TABLE,
    config: ConfigOption = None,
) -> int:
    """Adopt what DANM handed out: its networks with their bitmaps, and its DanmEps.

    Give both at once: a bit of a bitmap says that an address is in use, a DanmEp says by whom.
    """
    from danmpy.importing.danm import parse_danm

    settings = read_settings(context, config)
    parsed = _parse(files, parse_danm)
    work = _Import(settings, dry_run, output, reserve_unowned)
    return work.run(parsed, mapped or (), claims=claims)


def whereabouts(
    context: typer.Context,
    files: FilesArgument,
    mapped: MapOption = None,
    network: EveryOption = None,
    claims: ClaimsOption = False,
    dry_run: DryRunOption = False,
    reserve_unowned: ReserveOption = None,
    output: OutputOption = Format.TABLE,
    config: ConfigOption = None,
) -> int:
    """Adopt what whereabouts handed out: its IPPools."""
    from danmpy.importing.whereabouts import parse_whereabouts

    settings = read_settings(context, config)
    parsed = _parse(files, parse_whereabouts)
    work = _Import(settings, dry_run, output, reserve_unowned)
    return work.run(parsed, mapped or (), network, claims=claims)


def host_local(
    context: typer.Context,
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="DIR", help="State folders: /var/lib/cni/networks/NAME."),
    ],
    mapped: MapOption = None,
    network: EveryOption = None,
    node: Annotated[
        str | None,
        typer.Option("--node", metavar="NODE", help="Where the folders come from; else this node."),
    ] = None,
    sandboxes: Annotated[
        str | None,
        typer.Option(
            "--sandboxes",
            metavar="FILE",
            help="What crictl pods -o json printed there: it says which pods the containers are.",
        ),
    ] = None,
    claims: ClaimsOption = False,
    dry_run: DryRunOption = False,
    reserve_unowned: ReserveOption = None,
    output: OutputOption = Format.TABLE,
    config: ConfigOption = None,
) -> int:
    """Adopt what the CNI plugin host-local handed out on one node."""
    from danmpy.importing.hostlocal import parse_host_local, parse_sandboxes, with_pods
    from danmpy.importing.values import Parsed

    settings = read_settings(context, config)
    parts = [
        parse_host_local(folder.resolve().name, _state_files(folder), node or settings.node_name)
        for folder in folders
    ]
    if sandboxes is not None:
        pods, problems = parse_sandboxes(_read(Path(sandboxes)), sandboxes)
        parts = [*(with_pods(part, pods) for part in parts), Parsed(problems=problems)]
    work = _Import(settings, dry_run, output, reserve_unowned)
    return work.run(Parsed.joined(parts), mapped or (), network, claims=claims)


class _Import:
    """What all three have in common, from holdings to rows and an exit code."""

    def __init__(
        self, settings: Settings, dry_run: bool, output: Format, reserve: str | None = None
    ) -> None:
        self._settings = settings
        self._dry_run = dry_run
        self._output = output
        self._cause = read_cause(reserve or "import", "--reserve-unowned")
        self._reserve = reserve is not None

    def run(
        self,
        parsed: Parsed,
        mapped: Sequence[str],
        network: str | None = None,
        *,
        claims: bool,
    ) -> int:
        """Import, print a row an address, and say what was not understood."""
        from danmpy.bootstrap.readers import open_audit
        from danmpy.importing.plan import Naming, plan

        known = replace(self._known(), claims=claims)
        names = {*known.networks, *known.unresolved}
        naming = Naming(
            names=_names(mapped, names), every=choose_network(network, names) if network else ""
        )
        candidates = plan(parsed.holdings, known, naming)
        outcomes = self._outcomes(candidates)
        rows = [
            item.row(outcome, dry_run=self._dry_run)
            for item, outcome in zip(candidates, outcomes, strict=True)
        ]
        for line in (*parsed.notes, *map(str, parsed.problems)):
            say(line)
        listing = Listing(
            items=rows,
            columns=[
                Column(title="VERDICT", text=lambda item: item["verdict"]),
                Column(title="ADDRESS", text=lambda item: item["address"]),
                Column(title="NETWORK", text=lambda item: item["network"]),
                Column(title="POD", text=_pod),
                Column(title="CONTAINER", text=lambda item: item["container_id"][:12]),
                Column(title="INTERFACE", text=lambda item: item["interface"]),
                Column(title="NODE", text=lambda item: item["node"]),
                Column(title="MESSAGE", text=lambda item: item["message"]),
            ],
            fields=ROW_FIELDS,
            database_time=to_rfc3339(open_audit(self._settings).database_time()),
            extra={
                "dry_run": self._dry_run,
                "problems": [str(problem) for problem in parsed.problems],
            },
            empty="nothing in use was found",
        )
        emit(listing, self._output)
        if parsed.problems:
            return BAD_REQUEST
        return FINDINGS if any(each.verdict.is_finding for each in outcomes) else DONE

    def _known(self) -> Known:
        from danmpy.bootstrap.readers import open_intent, read_assignments
        from danmpy.importing.plan import Known

        intent = open_intent(self._settings).read()
        assignments = read_assignments(self._settings, intent)
        return Known(
            networks={str(key): spec for key, spec in assignments.networks.items()},
            unresolved={
                **{
                    str(key): "; ".join(each.message for each in problems)
                    for key, problems in intent.rejected.items()
                },
                **{
                    str(key): f"its segment is not known: {problem.message}"
                    for key, problem in assignments.problems.items()
                },
            },
            pods=intent.pods if intent.complete else None,
        )

    def _outcomes(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        """Do it, or see what would be; the owned addresses first, so that no reservation of an
        address without owner takes one.
        """
        from danmpy.bootstrap.readers import open_adopter

        adopter = open_adopter(self._settings)
        adoptions = [item.adoption for item in candidates if item.adoption is not None]
        if self._dry_run:
            adopted = iter(adopter.preview(adoptions))
        else:
            adopted = iter(adopter.adopt(adoptions, self._cause.actor))
        holders = adopter.holders(item.place for item in candidates if item.is_unowned)
        outcomes = []
        for item in candidates:
            if item.adoption is not None:
                outcomes.append(next(adopted))
            else:
                outcomes.append(item.outcome or self._unowned(item, holders.get(item.place)))
        return outcomes

    def _unowned(self, candidate: Candidate, holder: Lease | None) -> Outcome:
        """What becomes of an address in use that nobody is known to have."""
        from danmpy.bootstrap.readers import open_operators
        from danmpy.ipam.adoptions import Outcome, Verdict

        if holder is not None:
            return Outcome(verdict=Verdict.HELD, message=f"here {holder.holder} has it")
        if not self._reserve or candidate.spec is None:
            return Outcome(verdict=Verdict.UNOWNED)
        if not self._dry_run:
            try:
                operators = open_operators(self._settings)
                operators.reserve(candidate.spec, candidate.holding.address, self._cause)
            except IntentError as error:
                return Outcome(verdict=Verdict.CONFLICT, message=error.message)
        return Outcome(verdict=Verdict.RESERVED, message=self._cause.reason)


def _pod(row: Item) -> str:
    return f"{row['namespace']}/{row['pod']}".strip("/")


def _parse(files: Sequence[str], parse: Callable[[Sequence[Document]], Parsed]) -> Parsed:
    """What the manifests in `files` say; those that are none become problems."""
    from danmpy.cli.given import read_all
    from danmpy.importing.values import Parsed

    documents, problems = read_all(files)
    return Parsed.joined((parse(documents), Parsed(problems=tuple(problems))))


def _names(mapped: Sequence[str], known: Collection[str]) -> dict[str, str]:
    """The pairs of --map, their networks found among the `known` ones.

    Raises:
        IntentError: one is no pair, names no network, or a name stands twice.
    """
    names: dict[str, str] = {}
    for pair in mapped:
        name, equals, network = pair.partition("=")
        if not equals or not name or name in names:
            raise IntentError(
                f"{pair!r} does not say which network one name is",
                hint="write the pool's or folder's name, =, and the network; each name once",
                subject="--map",
            )
        names[name] = choose_network(network, known)
    return names


def _state_files(folder: Path) -> Iterator[StateFile]:
    """The files of a state folder of host-local; what it is not, is told by what reads them.

    Raises:
        IntentError: it cannot be read, or has folders in it, as the one above has.
    """
    from danmpy.importing.hostlocal import StateFile, is_state

    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise _unread(folder, error) from error
    for path in paths:
        if not is_state(path.name):
            continue
        if path.is_dir():
            raise IntentError(
                f"it has the folder {path.name} in it, so it is no state folder of one network",
                hint="name the folders of the networks",
                subject=str(folder),
            )
        try:
            with path.open("rb") as file:
                content = file.read(STATE_MAX)
            modified = int(path.stat().st_mtime_ns // 1000)
        except FileNotFoundError:
            continue  # released meanwhile
        except OSError as error:
            raise _unread(path, error) from error
        yield StateFile(path=str(path), name=path.name, content=content, modified=modified)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unread(path, error) from error


def _unread(path: Path, error: OSError) -> IntentError:
    return IntentError(
        f"it cannot be read: {error.strerror}",
        hint="name what is there and can be read",
        subject=str(path),
    )

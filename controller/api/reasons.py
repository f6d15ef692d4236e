"""The one list of reasons: conditions, events, the command line, logs and metrics use these words and no others.

`HELP` says of each what it means and what its reader can do; docs/troubleshooting.md is generated from it.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why something is as it is, or why it waits."""

    # All is well.
    READY = "Ready"
    AVAILABLE = "Available"
    LAUNCHED = "Launched"
    HEALTHY = "Healthy"
    CONVERGED = "Converged"
    INPUTS_CURRENT = "InputsCurrent"
    WITHIN_BOUNDS = "WithinBounds"
    NOTHING_WANTED = "NothingWanted"
    # On its way.
    RECONCILING = "Reconciling"
    SCALING = "Scaling"
    WAITING_FOR_LAUNCH = "WaitingForLaunch"
    LAUNCHING = "Launching"
    BOOTING = "Booting"
    STARTING = "Starting"
    TERMINATING = "Terminating"
    # Held back.
    PAUSED = "Paused"
    WAITING_FOR_DEPENDENCIES = "WaitingForDependencies"
    WAITING_FOR_DEPENDENTS = "WaitingForDependents"
    WAITING_FOR_CLOUD = "WaitingForCloud"
    WAITING_FOR_MACHINES = "WaitingForMachines"
    WAITING_FOR_GROUP = "WaitingForGroup"
    NO_ADDRESS = "NoAddress"
    BACK_OFF = "BackOff"
    BRAKED = "Braked"
    UNCLAIMED = "Unclaimed"
    LIMIT_REACHED = "LimitReached"
    FROZEN = "Frozen"
    RENDERER_FAILED = "RendererFailed"
    # A machine is not as it should be.
    PROBE_FAILED = "ProbeFailed"
    STARTUP_TIMEOUT = "StartupTimeout"
    MACHINE_ENDED = "MachineEnded"
    MACHINE_STOPPED = "MachineStopped"
    MACHINE_MISSING = "MachineMissing"
    MACHINE_ERROR = "MachineError"
    MACHINE_UNKNOWN = "MachineUnknown"
    DUPLICATE_MACHINE = "DuplicateMachine"
    LAUNCH_LOST = "LaunchLost"
    BATCH_BROKEN = "BatchBroken"
    UNHEALTHY = "Unhealthy"
    # The cloud refuses.
    NO_CAPACITY = "NoCapacity"
    QUOTA_EXCEEDED = "QuotaExceeded"
    THROTTLED = "Throttled"
    DENIED = "Denied"
    CLOUD_INVALID = "CloudInvalid"
    CLOUD_UNREACHABLE = "CloudUnreachable"
    ACCOUNT_CHANGED = "AccountChanged"
    CONTROLLER_CHANGED = "ControllerChanged"
    CLOUD_NOT_FOUND = "CloudNotFound"
    UNKNOWN_KIND = "UnknownKind"
    # The description is wrong.
    UNKNOWN_SERVICE = "UnknownService"
    CYCLE = "Cycle"
    TEMPLATE_NOT_FOUND = "TemplateNotFound"
    UNDECLARED_DEPENDENCY = "UndeclaredDependency"
    UNKNOWN_VARIABLE = "UnknownVariable"
    TEMPLATE_INVALID = "TemplateInvalid"
    USER_DATA_TOO_LARGE = "UserDataTooLarge"
    INPUTS_TOO_LARGE = "InputsTooLarge"
    SECRET_NOT_FOUND = "SecretNotFound"
    CONFIG_MAP_NOT_FOUND = "ConfigMapNotFound"
    NAME_TAKEN = "NameTaken"
    ID_TAKEN = "IdTaken"
    FORBIDDEN = "Forbidden"
    REJECTED = "Rejected"
    DEFECT = "Defect"
    # Something has changed.
    REVISION_CHANGED = "RevisionChanged"
    INPUT_CHANGED = "InputChanged"
    CLAMPED = "Clamped"
    SCALE_IN_REFUSED = "ScaleInRefused"
    SCALED_IN = "ScaledIn"
    OWNER_MISSING = "OwnerMissing"
    ABANDONED = "Abandoned"
    CREATED = "Created"
    DELETED = "Deleted"
    CLAIMED = "Claimed"


#: The words of the column that tells where a machine, a service or an infrastructure stands, where they are no reasons.
PHASES: dict[str, str] = {
    "Pending": "Nothing was done yet: it was not looked at, or waits for what its message says. If it stays so, nobody reconciles: "
    "`occopus up` or `occopus run` does, or the operator on a cluster, whose log says of which of its `--namespaces` it may not.",
    "Launching": "The launch was decided; the cloud's answer is awaited.",
    "Unhealthy": "A probe of the machine fails; it is replaced if it stays so.",
    "Unknown": "The cloud's answers about the machine are not clear; nothing is done about it.",
    "Missing": "The cloud does not list the machine; it is replaced once that is certain.",
    "Failed": "The machine is given up and replaced. The reason beside it says why.",
    "Ending": "The machine is being ended; the line goes when the cloud confirms it.",
    "Deleting": "The infrastructure was deleted; it goes when its last machine has gone.",
    "Stalled": "The description cannot be followed; correct what the reason names.",
}

#: Reason → (what it means, what to do about it).
HELP: dict[Reason, tuple[str, str]] = {
    Reason.READY: ("All is as described.", "Nothing."),
    Reason.AVAILABLE: ("As many machines are Ready as the service needs at least.", "Nothing."),
    Reason.LAUNCHED: ("The cloud made the machine and its id is recorded.", "Nothing."),
    Reason.HEALTHY: ("All probes pass, or there are none and the cloud says that the machine runs.", "Nothing."),
    Reason.CONVERGED: ("Nothing is left to do.", "Nothing."),
    Reason.INPUTS_CURRENT: ("What running machines were told is still so.", "Nothing."),
    Reason.WITHIN_BOUNDS: ("The number of machines wanted is within scaling.min and scaling.max.", "Nothing."),
    Reason.NOTHING_WANTED: ("The service is scaled to 0; that counts as Available.", "Scale it up when it is needed."),
    Reason.RECONCILING: ("Changes are under way.", "Wait; the services' own reasons say for what."),
    Reason.SCALING: ("There are fewer or more machines than wanted; this is being made right.", "Wait."),
    Reason.WAITING_FOR_LAUNCH: ("The machine is planned and not launched yet.", "Wait; the message says for what."),
    Reason.LAUNCHING: ("The launch was decided and recorded; the cloud's answer is awaited.", "Wait."),
    Reason.BOOTING: ("The cloud makes the machine; it does not run yet.", "Wait. If it stays so, look at the cloud's console."),
    Reason.STARTING: (
        "The machine runs and its probes do not pass yet; the start-up time is not over.",
        "Wait, or see `occopus console INSTANCE`.",
    ),
    Reason.TERMINATING: ("The machine is being ended; the object stays until the cloud confirms it.", "Wait."),
    Reason.PAUSED: ("spec.paused stops every change but deletion.", "Set spec.paused to false."),
    Reason.WAITING_FOR_DEPENDENCIES: ("A service depended on was not Available yet.", "See why that service is not Available."),
    Reason.WAITING_FOR_DEPENDENTS: (
        "Services that depend on this one still have machines; they go first.",
        "Wait; or see what keeps them.",
    ),
    Reason.WAITING_FOR_CLOUD: (
        "The cloud is not known well enough to act: not yet asked, or not Ready.",
        "The message has the Cloud's own reason: look that up here. `occopus get cloud NAME` shows all.",
    ),
    Reason.WAITING_FOR_MACHINES: ("The object stays until its machines have ended.", "Wait; or see what keeps them."),
    Reason.WAITING_FOR_GROUP: (
        "The group of this Instance, or its Infrastructure, is going or gone: nothing is launched for it.",
        "Nothing.",
    ),
    Reason.NO_ADDRESS: (
        "The template reads the address of a service that has none.",
        "Scale that service up, or give its machines addresses.",
    ),
    Reason.BACK_OFF: (
        "The last replacements failed; the next waits.",
        "See why the machines fail: conditions, events, `occopus console INSTANCE`.",
    ),
    Reason.BRAKED: ("As many machines as allowed are being replaced at once.", "Wait until those are Ready; find out why so many fail."),
    Reason.UNCLAIMED: (
        "Machines with this Infrastructure's name exist which no Instance claims; until then no new ones are made.",
        "If they are this Infrastructure's, create it with the `spec.id` that the message names; else end them at the cloud.",
    ),
    Reason.LIMIT_REACHED: (
        "The account has `Cloud.spec.maxInstances` machines of this controller, those of its other Clouds and namespaces among them.",
        "Raise maxInstances of the Cloud, or scale something down.",
    ),
    Reason.FROZEN: (
        "The store or the cloud's answers are in doubt: nothing is destroyed or replaced.",
        "Wait, or see the message for what is in doubt.",
    ),
    Reason.RENDERER_FAILED: (
        "The controller's own process that renders templates could not be started, gave no answer, was ended, or is taken up by templates "
        "that take long; this template is not to blame.",
        "Nothing: it is tried again. If it stays so, the machine that the controller runs on is short of memory or too busy, or other "
        "templates are TemplateInvalid for what they cost.",
    ),
    Reason.PROBE_FAILED: (
        "A probe of a machine that was healthy fails.",
        "See the message for what was tried; it is replaced if it stays so.",
    ),
    Reason.STARTUP_TIMEOUT: (
        "The machine was not healthy within health.startupSeconds.",
        "See `occopus console INSTANCE` of the next one while it starts; raise startupSeconds if it only needs longer.",
    ),
    Reason.MACHINE_ENDED: ("The cloud says that the machine has ended, and we did not end it.", "Nothing: it is replaced."),
    Reason.MACHINE_STOPPED: ("The machine is stopped at the cloud; a stopped machine is not running.", "Nothing: it is replaced."),
    Reason.MACHINE_MISSING: ("The cloud does not list the machine and does not know its id any more.", "Nothing: it is replaced."),
    Reason.MACHINE_ERROR: ("The cloud says that the machine has failed.", "See the message; it is replaced."),
    Reason.MACHINE_UNKNOWN: (
        "The cloud's answers about this machine are not clear, or its tag names this controller no more: nothing is done about it.",
        "See the message and the conditions of the Cloud; put the tag back.",
    ),
    Reason.DUPLICATE_MACHINE: (
        "Two machines carry this Instance's identity, and no new ones are made meanwhile; or it is a copy of the Instance that has the"
        " machine.",
        "Look at both machines at the cloud and end the one not recorded; delete a copy, which ends nothing.",
    ),
    Reason.LAUNCH_LOST: (
        "A launch was sent, its answer was lost and no machine appeared; it is never sent again.",
        "Nothing: it is replaced.",
    ),
    Reason.BATCH_BROKEN: (
        "Machines that are made by one call were to be launched, and one of them went before: none was made.",
        "Nothing to do: all of them are planned again.",
    ),
    Reason.UNHEALTHY: ("Some machines of the service are not Ready.", "See their conditions."),
    Reason.NO_CAPACITY: ("The cloud has no room for such a machine now.", "Wait, or add another implementation to the template."),
    Reason.QUOTA_EXCEEDED: ("The account's limit at the cloud is reached.", "Ask the cloud for more, or scale something down."),
    Reason.THROTTLED: ("The cloud asks for fewer calls; they are slowed down.", "Wait."),
    Reason.DENIED: (
        "The cloud refuses the credentials, or they lack a permission.",
        "Correct the Secret or the rights of the account, or change in the InstanceTemplate what is not allowed; it recovers by itself.",
    ),
    Reason.CLOUD_INVALID: (
        "The cloud cannot make a machine of this implementation.",
        "Correct the field that the message names, in the InstanceTemplate.",
    ),
    Reason.CLOUD_UNREACHABLE: (
        "The cloud gives no usable answer. Nothing is destroyed or replaced meanwhile.",
        "See the message; check endpoint and network.",
    ),
    Reason.ACCOUNT_CHANGED: (
        "The credentials answer for another account than at first contact, or than that of the machines it has; the Cloud is frozen.",
        "Put back credentials of the first account, or make a new Cloud for the new one.",
    ),
    Reason.CONTROLLER_CHANGED: (
        "The controller has another id than the one in the tags of the Cloud's machines; the Cloud is frozen.",
        "Give it back its id: put it into its ConfigMap, or start it with --controller-id; the message names it.",
    ),
    Reason.CLOUD_NOT_FOUND: ("The Cloud named by the template does not exist.", "Create it, or correct cloudRef."),
    Reason.UNKNOWN_KIND: ("No driver for this kind of cloud is installed.", "Install the driver, or correct the kind."),
    Reason.UNKNOWN_SERVICE: ("dependsOn names a service that is not there.", "Correct dependsOn."),
    Reason.CYCLE: ("Services depend on each other in a ring; the message shows it.", "Remove one of these dependencies."),
    Reason.TEMPLATE_NOT_FOUND: ("The InstanceTemplate does not exist.", "Create it, or correct templateRef."),
    Reason.UNDECLARED_DEPENDENCY: (
        "A template reads a service that its own service does not depend on.",
        "Add the service to dependsOn, or do not read it.",
    ),
    Reason.UNKNOWN_VARIABLE: (
        "A template reads a variable that nobody defines.",
        "Define it on the template, the service or the Infrastructure, or let the template do without it by `default('…')`.",
    ),
    Reason.TEMPLATE_INVALID: (
        "The template cannot be rendered, or takes too much time or memory; the message names line and column.",
        "Correct the template. One that takes too much is tried again as it is, after five minutes and then twice as long each time.",
    ),
    Reason.USER_DATA_TOO_LARGE: (
        "The rendered user data is over the cloud's limit, compressed too.",
        "Make it smaller: let the machine fetch what is large.",
    ),
    Reason.INPUTS_TOO_LARGE: ("What the template reads is over 16 KiB.", "Read single addresses instead of whole lists."),
    Reason.SECRET_NOT_FOUND: ("A Secret, or a key in it, does not exist.", "Create it, or correct its name; the launch goes on by itself."),
    Reason.CONFIG_MAP_NOT_FOUND: ("A ConfigMap, or a key in it, does not exist.", "Create it; planning goes on by itself."),
    Reason.NAME_TAKEN: (
        "A group of this name belongs to another Infrastructure, or was left by one.",
        "Rename the Infrastructure or the service, or take over what was left by the spec.id that the message names.",
    ),
    Reason.ID_TAKEN: ("Another Infrastructure has the same spec.id.", "Give each its own id."),
    Reason.FORBIDDEN: (
        "The Kubernetes API does not allow the operator what it needs; the message names verb and resource.",
        "Grant it (deploy/operator.yaml has the least Role); it is tried again by itself.",
    ),
    Reason.REJECTED: ("The API refused a write of the controller.", "Report it with the message; it is tried again with back-off."),
    Reason.DEFECT: (
        "The controller has a defect by which it cannot look at the object; what runs is left alone.",
        "Report it with what the controller's log says of it; it is tried again with back-off.",
    ),
    Reason.REVISION_CHANGED: (
        "The template has changed. Running machines are of an older revision; what was not launched yet is made anew.",
        "Delete Instances one by one to have them made anew.",
    ),
    Reason.INPUT_CHANGED: (
        "What running machines were told has changed since, for example an address.",
        "Delete the Instances that the message names to have them told anew.",
    ),
    Reason.CLAMPED: (
        "The number wanted is outside scaling.min and scaling.max; the nearest bound counts.",
        "Change the number or the bounds.",
    ),
    Reason.SCALE_IN_REFUSED: (
        "services[].replicas fixes the count, so scale-in of one Instance does not lower it.",
        "Lower services[].replicas.",
    ),
    Reason.SCALED_IN: ("The count was lowered for an Instance marked for scale-in.", "Nothing."),
    Reason.OWNER_MISSING: (
        "The group belongs to no Infrastructure, or the Instance was deleted because its owner is gone: their machines are left alone.",
        "Create the Infrastructure again, with the same spec.id and service, to take them over, or end them at the cloud.",
    ),
    Reason.ABANDONED: ("The user gave the machine up for lost; it may still run.", "Check the account for it."),
    Reason.CREATED: ("Something was made.", "Nothing."),
    Reason.DELETED: ("Something is being deleted.", "Nothing."),
    Reason.CLAIMED: ("A machine that had no Instance got one.", "Nothing."),
}

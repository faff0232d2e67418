"""Who there is, what they care about, and how they decide: read from a TOML file a person can copy and change."""

from echo_core.organisation.loader import load_organisation as load_organisation
from echo_core.organisation.model import Concern as Concern
from echo_core.organisation.model import Organisation as Organisation
from echo_core.organisation.model import PhaseLimits as PhaseLimits
from echo_core.organisation.model import Role as Role

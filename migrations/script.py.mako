"""${message}

Safe beside the version that is still running? Say why. Destructive changes take two releases:
first nobody uses the thing any more, then it goes.
"""

${imports if imports else ""}
import sqlalchemy as sa
from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}

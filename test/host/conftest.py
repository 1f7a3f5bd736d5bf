import sys
from pathlib import Path

HERE = Path(__file__).parent
# Modules of the tests of other folders: random schedules, their mutants, small models.
for folder in (HERE, HERE.parent / "schedule", HERE.parent / "backends"):
    sys.path.insert(0, str(folder))

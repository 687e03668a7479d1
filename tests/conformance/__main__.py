"""``python -m tests.conformance``: writes the files of ``bitstream_spec/conformance`` and removes others."""

from __future__ import annotations

from .corpus import FOLDER, files

KEPT = ".gitattributes"


def main() -> None:
    """Generate and say what changed."""
    made = files()
    there = {str(path.relative_to(FOLDER)): path for path in FOLDER.rglob("*") if path.is_file()}
    for name, path in there.items():
        if name not in made and name != KEPT:
            path.unlink()
            print("removed", name)
    for name, data in made.items():
        path = FOLDER / name
        if name not in there or path.read_bytes() != data:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            print("wrote", name)
    print(f"{len(made)} files, {sum(map(len, made.values()))} bytes in {FOLDER}")


if __name__ == "__main__":
    main()

"""Packages that mean harm to who describes them: see `hostile.py`.

Plans and models for Ascend chips are read on their device alone: `UNREAD` are those that nothing here reads.
"""

from __future__ import annotations

import json
import os
import struct
from typing import Any

from tests.unit.formats.hostile import Case


def _package(entry: str, data: str | bytes, **changes: Any) -> Case:
    component = {
        "name": "net",
        "model_type": "",
        "entry": entry,
        "files": [entry],
        "options": {},
        "max_batch": 1,
        "num_classes": 0,
        "signature": {
            "inputs": [{"name": "x", "dtype": "float32", "shape": {"min": [1], "opt": [1], "max": [1]}}],
            "outputs": [],
        },
        "preprocessing": {},
        "parity": {},
    }
    manifest = {
        "schema_version": 1,
        "repo": "",
        "version": "1",
        "device": "cpu-x86-64",
        "runtime": {"name": "openvino", "version": "1"},
        "precision": "FP32",
        "method": "raw",
        "args": {},
        "taxonomies": [],
        "components": [component],
        "lineage": {
            "source_format": "ONNX",
            "source_digest": "",
            "template": "",
            "template_digest": "",
            "architectures": {},
        },
        "requirements": {"architecture": "x86_64", "packages": {}, "cpu_flags_any": []},
        "report": "report.json",
        **changes,
    }
    component |= changes.pop("component", {})
    manifest.pop("component", None)
    return Case("PACKAGE", lambda: {"manifest.json": json.dumps(manifest), entry: data})


def _ir(body: str, before: str = "") -> Case:
    return _package("net/model.xml", f'<?xml version="1.0"?>{before}<net version="11">{body}</net>')


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
PACKAGES = {
    "IR that repeats itself": _ir("<layer>&l11;</layer>", f'<!DOCTYPE n [<!ENTITY l0 "{"ha" * 50}">{LAUGHS}]>'),
    "IR that takes a file": _ir("<layer>&x;</layer>", '<!DOCTYPE n [<!ENTITY x SYSTEM "file:///etc/passwd">]>'),
    "IR nested deeply": _ir("<layer>" * 200_000),
    "IR with a giant number": _ir(f'<layer type="Const"><data shape="{"9" * 300_000}" size="4"/></layer>'),
    "IR with numbers that are none": _ir('<layer type="Const"><data shape="1,x" size="nan"/></layer>'),
    "IR of noise": _package("net/model.xml", b"\xff\xfe<" + bytes(1000)),
    "graph of noise in a package": _package("net/model.onnx", b"\x08\x07\x3a\xff\xff\xff\xff\x0f"),
    "manifest with a file above": _package("net/a.plan", b"", component={"files": ["net/a.plan", "../../secret"]}),
    "manifest that opens what is elsewhere": _package("net/a.plan", b"", component={"entry": "/etc/passwd"}),
    "manifest with a name that climbs": _package("net/a.plan", b"", component={"name": "../net"}),
    "manifest of many components": _package(
        "net/a.plan", b"", components=[{"name": f"n{number}"} for number in range(100_000)]
    ),
    "manifest with a giant number": _package("net/a.plan", b"", component={"max_batch": 10**400}),
}
UNREAD = {
    "plan of noise": _package("net/model.plan", os.urandom(1 << 16)),
    "plan with a wild header": _package("net/model.plan", b"ftrt" + struct.pack("<QQ", 1 << 62, 1 << 62) + bytes(64)),
    "plan of nothing": _package("net/model.plan", b""),
    "model of noise for Ascend": _package("net/model.om", b"IMOD" + b"\xff" * 252 + os.urandom(1 << 16)),
}

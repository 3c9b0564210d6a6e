"""Reading checkpoints: kinds of files, one sentence for each error, nothing half-written."""

import json
import pickle
import sys
from argparse import Namespace

import keras
import numpy as np
import pytest
import torch
from checkpoints import write
from mimzoo_training.cli import main
from test_convert_layouts import FACTS, mae, randomized, swin_v2, to_tensors, vit

import mimzoo
from mimzoo.convert import convert, export, get_layout
from mimzoo.convert.importing import load
from mimzoo.models import ViTBackbone
from mimzoo.pretraining import MAE


@pytest.fixture(scope="module")
def state() -> dict:
    return to_tensors(get_layout("mae_full"), randomized(mae()))


def as_torch(state: dict) -> dict:
    return {k: torch.tensor(v) for k, v in state.items()}


def index_of(names: dict[str, list[str]]) -> str:
    return json.dumps({"weight_map": {k: file for file, keys in names.items() for k in keys}})


def kinds(state: dict, folder) -> dict:
    """One checkpoint in every kind of file."""
    paths = {name: folder / name for name in ("a.pth", "b.pth", "c.bin", "d.pt")}
    training = {
        "model": as_torch(state),
        "optimizer": {"state": {}, "param_groups": [{"lr": 1e-3}]},
        "args": Namespace(lr=1e-3),
        "max_accuracy": np.float64(83.1),
        "epoch": 799,
    }
    torch.save(training, paths["a.pth"])
    torch.save(as_torch(state), paths["b.pth"], _use_new_zipfile_serialization=False)
    torch.save({f"module.{k}": v for k, v in as_torch(state).items()}, paths["c.bin"])
    torch.save({"state_dict": as_torch(state)}, paths["d.pt"])
    half = len(state) // 2
    keys = list(state)
    parts = {"m-1.safetensors": keys[:half], "m-2.safetensors": keys[half:]}
    for name, part in parts.items():
        write({k: state[k] for k in part}, folder / "shards" / name)
    index = folder / "shards" / "model.safetensors.index.json"
    index.write_text(index_of(parts))
    return {**paths, "index": index, "folder": index.parent}


@pytest.mark.parametrize("kind", ["a.pth", "b.pth", "c.bin", "d.pt", "index", "folder"])
def test_kinds_of_files(kind, state, tmp_path):
    path = kinds(state, tmp_path)[kind]
    done = []
    entry = convert(path, tmp_path / "out", progress=lambda *x: done.append(x), **FACTS)
    assert entry["layout"] == "mae_full"
    assert done[-1] == (len(state), len(state))
    assert len(entry["sha256"]) == 64
    weights = MAE.from_preset(str(tmp_path / "out")).decoder.embed.kernel
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(weights), state["decoder_embed.weight"].T
    )


class Malicious:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code has run')",))


def broken(state: dict, folder) -> dict:
    """Name of an error -> (file, further arguments of convert, what the sentence says)."""
    whole = write(state, folder / "whole.safetensors")
    cut = folder / "cut.safetensors"
    cut.write_bytes(whole.read_bytes()[:-1000])
    headless = folder / "headless.safetensors"
    headless.write_bytes(whole.read_bytes()[:50])
    torch.save(as_torch(state), folder / "whole.pth")
    cut_torch = folder / "cut.pth"
    cut_torch.write_bytes((folder / "whole.pth").read_bytes()[:-1000])
    evil = folder / "evil.pth"
    torch.save({"model": as_torch(state), "more": Malicious()}, evil)
    pickled = folder / "pickle.bin"
    pickled.write_bytes(pickle.dumps(Malicious()))
    text = folder / "text.pth"
    text.write_text("not a checkpoint at all")
    empty = folder / "empty.pth"
    torch.save({"epoch": 3}, empty)
    shards = folder / "shards"
    shards.mkdir()
    (shards / "model.safetensors.index.json").write_text(index_of({"m-1.safetensors": ["a"]}))
    key = "blocks.1.mlp.fc1.weight"
    more = {**state, "surplus.weight": np.zeros(2, "f4")}
    less = {k: v for k, v in state.items() if k != key}
    short = {**state, key: state[key][:-1]}
    nan = {**state, key: state[key] * np.nan}
    wide = {**state, "pos_embed": state["pos_embed"][:, :-1]}
    strange = {"conv1.weight": np.zeros((2, 2), "f4")}
    named = {
        n: write(s, folder / f"{n}.safetensors")
        for n, s in locals().items()
        if n in ("more", "less", "short", "nan", "wide", "strange")
    }
    return {
        "truncated": (cut, {}, r"is cut off: .* Download it again"),
        "truncated header": (headless, {}, "is cut off, or no safetensors file"),
        "truncated torch": (cut_torch, {}, "is cut off, or is not a torch checkpoint"),
        "no torch file": (text, {}, "is cut off, or is not a torch checkpoint"),
        "code": (evil, {}, r"is refused: it holds .*exec, which is code"),
        "only code": (pickled, {}, "is cut off, or is not a torch checkpoint"),
        "no tensors": (empty, {}, "has no tensors by name"),
        "no shard": (shards, {}, "names the shard 'm-1.safetensors', which is not beside it"),
        "no file": (folder / "none.pth", {}, "there is no file"),
        "unknown layout": (whole, {"layout": "mae_ful"}, "no layout 'mae_ful'; nearest: mae_full"),
        "wrong layout": (
            whole,
            {"layout": "hf_vit_mae"},
            "layout hf_vit_mae: it matches",
        ),
        "no layout": (named["strange"], {}, "no known layout has tensors such as conv1.weight"),
        "left over": (named["more"], {}, "has no place for surplus.weight"),
        "missing": (named["less"], {}, f"lacks {key}"),
        "shape": (named["short"], {}, rf"{key} .* does not fit"),
        "not finite": (named["nan"], {}, f"{key} has numbers that are not finite"),
        "no size": (named["wide"], {}, "image_size cannot be inferred"),
    }


def test_errors_are_one_sentence_and_leave_nothing(state, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    for name, (path, more, sentence) in broken(state, tmp_path).items():
        with pytest.raises(ValueError, match=sentence) as caught:
            convert(path, out / "preset", **more, **FACTS)
        assert "\n" not in str(caught.value), name
        assert not list(out.iterdir()), name
        arguments = ["convert", str(path), "--out", str(out / "preset")]
        arguments += ["--layout", more["layout"]] if more else []
        arguments += [f"--set={k}={v}" for k, v in FACTS.items()]
        assert main(arguments) == 1
        assert len(capsys.readouterr().err.strip().splitlines()) == 1, name
        assert not list(out.iterdir()), name


def test_torch_files_need_torch_and_others_do_not(state, tmp_path, monkeypatch):
    torch.save(as_torch(state), tmp_path / "x.pth")
    path = write(state, tmp_path / "x.safetensors")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ValueError, match="needs torch: pip install torch"):
        convert(tmp_path / "x.pth", tmp_path / "out", **FACTS)
    if keras.config.backend() != "torch":
        load([path], None, FACTS)


def test_what_is_there_is_not_overwritten(state, tmp_path):
    path = write(state, tmp_path / "x.safetensors")
    convert(path, tmp_path / "out", **FACTS)
    with pytest.raises(ValueError, match="exists already"):
        convert(path, tmp_path / "out", **FACTS)
    with pytest.raises(ValueError, match="exists already"):
        export(tmp_path / "out", "mae_full", path)
    with pytest.raises(ValueError, match=r"has to end in \.safetensors"):
        export(tmp_path / "out", "mae_full", tmp_path / "x.bin")


def test_export_refuses_what_a_layout_cannot_say(tmp_path):
    vit(relative_position_bias="shared").save_to_preset(str(tmp_path / "vit"))
    swin_v2().save_to_preset(str(tmp_path / "swin"))
    out = tmp_path / "x.safetensors"
    with pytest.raises(ValueError, match="is of a MAE, the preset holds a ViTBackbone"):
        export(tmp_path / "vit", "mae_full", out)
    with pytest.raises(ValueError, match="is of a ViTBackbone, the preset holds a SwinV2Backbone"):
        export(tmp_path / "swin", "mae_full", out)
    vit(class_token=False).save_to_preset(str(tmp_path / "tokens"))
    with pytest.raises(ValueError, match="has a class token, the model has none"):
        export(tmp_path / "tokens", "mae_encoder_only", out)
    assert not out.exists()


def test_command_line(state, tmp_path, capsys):
    path = write(state, tmp_path / "mae_pretrain_vit_base.safetensors")
    preset, back = tmp_path / "preset", tmp_path / "y.safetensors"
    facts = [f"--set={k}={v}" for k, v in FACTS.items()]
    assert main(["convert", str(path), "--out", str(preset), *facts]) == 0
    printed = capsys.readouterr().out
    assert f"{len(state)} tensors mapped, layout mae_full" in printed
    assert "licence CC-BY-NC-4.0" in printed
    assert main(["export", str(preset), "--layout", "timm_vit", "--out", str(back)]) == 0
    assert "weights have no place in it" in capsys.readouterr().out
    assert main(["convert", str(path), "--out", str(preset), "--set", "num_heads"]) == 1
    assert "give NAME=VALUE" in capsys.readouterr().err
    assert main(["export", str(preset), "--layout", "mae", "--out", str(tmp_path / "z.bin")]) == 1


def test_published_results_and_licence_come_along(state, tmp_path):
    encoder = {k: v for k, v in state.items() if "decoder" not in k and k != "mask_token"}
    path = tmp_path / "mae_pretrain_vit_base.pth"
    torch.save({"model": as_torch(encoder)}, path)
    entry = convert(path, tmp_path / "a", num_heads=3)
    assert entry["preset"] == "vit_base_mae_in1k_1600ep"
    assert [result["value"] for result in entry["published"]] == [
        *(83.6, 48.13, 51.6, 45.9),  # of the file: ImageNet, ADE20K, COCO
        *(83.664, 96.53, 0.731),
    ]
    assert json.loads((tmp_path / "a" / "conversion.json").read_text()) == entry
    card = (tmp_path / "a" / "README.md").read_text()
    assert "license: cc-by-nc-4.0" in card
    assert entry["sha256"] in card
    assert convert(path, tmp_path / "b", licence="MIT", num_heads=3)["licence"] == "MIT"
    (tmp_path / "README.md").write_text("---\nlicense: bsd-3-clause\n---\n")
    assert convert(path, tmp_path / "c", num_heads=3)["licence"] == "bsd-3-clause"


def test_from_preset_takes_a_foreign_folder(tmp_path, monkeypatch, capsys):
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    monkeypatch.setenv("MIMZOO_CACHE", str(tmp_path / "cache"))
    config = ViTMAEConfig(
        hidden_size=24,
        num_hidden_layers=1,
        num_attention_heads=3,
        intermediate_size=48,
        image_size=16,
        patch_size=4,
        decoder_hidden_size=16,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=4,
        decoder_intermediate_size=32,
    )
    ViTMAEForPreTraining(config).save_pretrained(tmp_path / "theirs")
    backbone = mimzoo.models.Backbone.from_preset(str(tmp_path / "theirs"), drop_path_rate=0.1)
    assert isinstance(backbone, ViTBackbone)
    assert (backbone.num_heads, backbone.mlp_ratio, backbone.drop_path_rate) == (3, 2.0, 0.1)
    assert "converted from the layout hf_vit_mae" in capsys.readouterr().out
    task = MAE.from_preset(str(tmp_path / "theirs"))
    assert not task.target.normalize
    assert "converted" not in capsys.readouterr().out
    # Another configuration beside the same tensors is another model.
    config.mask_ratio = 0.5
    config.save_pretrained(tmp_path / "theirs")
    assert MAE.from_preset(str(tmp_path / "theirs")).masking.mask_ratio == 0.5
    assert len(list((tmp_path / "cache" / "converted").iterdir())) == 2
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ValueError, match=r"no config\.json of a preset and no checkpoint"):
        MAE.from_preset(str(tmp_path / "nothing"))


def test_export_is_read_by_transformers(tmp_path):
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    torch.manual_seed(0)
    config = ViTMAEConfig(
        hidden_size=24,
        num_hidden_layers=1,
        num_attention_heads=3,
        intermediate_size=96,
        image_size=16,
        patch_size=4,
        decoder_hidden_size=16,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=4,
        decoder_intermediate_size=64,
    )
    theirs = ViTMAEForPreTraining(config)
    theirs.save_pretrained(tmp_path / "theirs")
    convert(tmp_path / "theirs", tmp_path / "preset")
    export(tmp_path / "preset", "hf_vit_mae", tmp_path / "back" / "model.safetensors")
    config.save_pretrained(tmp_path / "back")
    back, printed = ViTMAEForPreTraining.from_pretrained(
        tmp_path / "back", output_loading_info=True
    )
    assert not printed["missing_keys"]
    assert not printed["unexpected_keys"]
    for (name, old), new in zip(theirs.named_parameters(), back.parameters(), strict=True):
        assert torch.equal(old, new), name

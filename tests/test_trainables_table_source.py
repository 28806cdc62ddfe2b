import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from spaces.errors import UserError
from trainables.data.dataset import ImageData, read_sources
from trainables.data.opening import open_source
from trainables.data.splits import SPLITS
from trainables.prepare import prepare

SIZE = 16


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """40 images in folders of splits and classes."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("validation", 4), ("test", 4)):
        for name in ("cat", "dog"):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "photos"


def rows_of(photos: Path) -> pd.DataFrame:
    files = sorted(photos.rglob("*.png"))
    return pd.DataFrame(
        {
            "path": [str(file.relative_to(photos)) for file in files],
            "label": [file.parent.name for file in files],
            "split": [file.parts[-3] for file in files],
            "animal": [f"{file.parent.name}{int(file.stem) // 2}" for file in files],
        }
    )


def write_shards(photos: Path, folder: Path, *, described: bool = True) -> Path:
    """The images as Hugging Face stores them: a file for each split, and train in two."""
    rows = rows_of(photos)
    names = ["cat", "dog"]
    features = {
        "image": {"_type": "Image"},
        "label": {"names": names, "_type": "ClassLabel"},
    }
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    folder.mkdir(parents=True)
    for split, of_split in rows.groupby("split"):
        shuffled = of_split.sample(frac=1, random_state=0)
        for number in range(2):
            part = shuffled[number::2]
            images = [
                {"bytes": (photos / path).read_bytes(), "path": path.replace("/", "_")}
                for path in part["path"]
            ]
            labels = [names.index(name) if described else name for name in part["label"]]
            table = pa.table({"image": images, "label": labels})
            if described:
                table = table.replace_schema_metadata(metadata)
            pq.write_table(table, folder / f"{split}-0000{number}-of-00002.parquet")
    return folder


def test_folders_csv_parquet_and_shards_make_equal_data(photos: Path, tmp_path: Path):
    rows = rows_of(photos)
    rows.to_csv(tmp_path / "labels.csv", index=False)
    rows.sample(frac=1, random_state=1).rename(columns={"path": "File", "label": "class"}).to_csv(
        tmp_path / "shuffled.tsv", index=False, sep="\t"
    )
    rows.to_parquet(tmp_path / "labels.parquet")
    write_shards(photos, tmp_path / "hub" / "data")
    write_shards(photos, tmp_path / "plain", described=False)
    made = {
        "folders": open_source(str(photos)),
        "csv": open_source(str(photos), table=tmp_path / "labels.csv"),
        "tsv": open_source(str(tmp_path / "shuffled.tsv"), images=photos),
        "parquet": open_source(str(photos), table=tmp_path / "labels.parquet"),
        "shards": open_source(str(tmp_path / "hub")),
        "shards of other software": open_source(str(tmp_path / "plain")),
    }
    data = {
        name: prepare(source, tmp_path / "out" / name, size=SIZE) for name, source in made.items()
    }
    assert len({one.digest for one in data.values()}) == 1
    assert {one.classes for one in data.values()} == {("cat", "dog")}
    for one in data.values():
        assert [len(one.rows(split)) for split in SPLITS] == [24, 8, 8]
    assert data["csv"].notes[0] == (
        "labels are those of labels.csv: path from path, label from label, split from split"
    )
    assert data["shards"].notes[0] == (
        "6 Parquet files: images in image, classes in label, splits train, validation, test"
    )


def test_a_column_groups_images_and_given_splits_stay(photos: Path, tmp_path: Path):
    table = tmp_path / "labels.csv"
    rows_of(photos).to_csv(table, index=False)
    given = prepare(
        open_source(str(photos), table=table, group="animal"), tmp_path / "given", size=SIZE
    )
    assert given.notes[-1] == (
        "groups: 12, of which 4 lie in several of the given splits: cat0, cat1, dog0, dog1"
    )
    source = open_source(str(photos), table=table, columns={"group": "animal"}, splits="random")
    drawn = prepare(source, tmp_path / "drawn", size=SIZE)
    animals = dict(zip(*(rows_of(photos)[name] for name in ("path", "animal")), strict=True))
    split_of: dict[str, set[int]] = {}
    for path, split in zip(read_sources(drawn.path), drawn.splits.tolist(), strict=True):
        split_of.setdefault(animals[path], set()).add(split)
    assert all(len(splits) == 1 for splits in split_of.values())
    assert drawn.notes[-1] == "groups, each in one split: 12"


def test_rows_without_a_split_go_to_train_and_to_the_splits_that_no_row_has(
    photos: Path, tmp_path: Path
):
    rows = rows_of(photos)
    rows["split"] = rows["split"].where(rows["split"] == "test", "")
    rows.to_csv(tmp_path / "labels.csv", index=False)
    data = prepare(
        open_source(str(photos), table=tmp_path / "labels.csv"), tmp_path / "out", size=SIZE
    )
    assert [len(data.rows(split)) for split in SPLITS] == [28, 4, 8]


def test_cells_are_text(tmp_path: Path, photos: Path):
    rows = rows_of(photos)[["path", "label"]]
    rows["label"] = ["007" if label == "cat" else "NA" for label in rows["label"]]
    rows.to_csv(tmp_path / "labels.csv", index=False)
    assert open_source(str(photos), table=tmp_path / "labels.csv").classes == ("007", "NA")
    rows["label"] = "=1+1"
    rows.loc[0, "label"] = 'x, "y"'
    rows.to_csv(tmp_path / "labels.csv", index=False)
    assert open_source(str(photos), table=tmp_path / "labels.csv").classes == ("=1+1", 'x, "y"')


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("", {}, "can't be read as a table: No columns to parse"),
        ("path,label\n", {}, "has no rows"),
        ("path,kind\na,b\n", {}, "no column for the label; it has path, kind; name one with --col"),
        ("path,label\na,\nb,c\n", {}, "1 rows have no label, the first is row 1; fill them in"),
        ("path,label,split\na,b,trian\n", {}, "'trian' in the column for the split; write train"),
        ("path,species\na,b\n", {"label": "specie"}, "no column specie; did you mean species"),
        ("path,label\na,b\n", {"lable": "x"}, "--column lable=x: a table has columns for path, l"),
        (b"path,label\ncaf\xe9,b\n", {}, "can't be read as a table: 'utf-8' codec can't decode"),
    ],
)
def test_mistakes_in_a_table_are_one_clear_line(tmp_path: Path, content, options, message: str):
    table = tmp_path / "labels.csv"
    table.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as caught:
        open_source(str(tmp_path), table=table, columns=options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_tables_and_missing_images_have_their_line(tmp_path: Path, photos: Path):
    (tmp_path / "labels.xlsx").write_bytes(b"x")
    for name, message in (
        ("labels.xlsx", "is no table; name one that"),
        ("none.csv", "no such ta"),
    ):
        with pytest.raises(UserError, match=message):
            open_source(str(photos), table=tmp_path / name)
    with pytest.raises(UserError, match="--images and --column are for a table"):
        open_source(str(photos), images=tmp_path)
    rows = rows_of(photos)
    rows.to_csv(tmp_path / "labels.csv", index=False)
    shutil.rmtree(photos / "test" / "cat")
    with pytest.raises(UserError, match=r"test/cat/0\.png: No such file or directory\n"):
        prepare(
            open_source(str(photos), table=tmp_path / "labels.csv"), tmp_path / "out", size=SIZE
        )


def test_damaged_shards_and_shards_without_images_have_their_line(tmp_path: Path, photos: Path):
    folder = write_shards(photos, tmp_path / "hub")
    shard = next(folder.iterdir())
    shard.write_bytes(shard.read_bytes()[:500])
    with pytest.raises(UserError, match="can't be read as Parquet: ") as caught:
        open_source(str(folder))
    assert "\n" not in str(caught.value)
    shutil.rmtree(folder)
    folder.mkdir()
    pq.write_table(pa.table({"text": ["a"]}), folder / "train.parquet")
    with pytest.raises(UserError, match=r"no column has images \(bytes and path\); it has text"):
        open_source(str(folder))


def test_images_of_shards_without_a_label_are_left_out(tmp_path: Path, photos: Path):
    folder = write_shards(photos, tmp_path / "hub")
    for shard in folder.glob("test-*"):
        table = pq.read_table(shard)
        none = pa.array([-1] * len(table))
        pq.write_table(table.set_column(1, "label", none), shard)
    data: ImageData = prepare(open_source(str(folder)), tmp_path / "out", size=SIZE)
    assert len(data) == 32
    assert "images left out, since they have no label: 8" in data.notes
    assert [len(data.rows(split)) for split in SPLITS] == [20, 8, 4]

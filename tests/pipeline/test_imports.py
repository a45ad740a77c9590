import subprocess
import sys


def test_the_package_imports_neither_beam_nor_numpy():
    code = (
        "import sys, adaptiverec.pipeline, adaptiverec.pipeline.contract;"
        "print(sorted({'apache_beam', 'numpy', 'pyarrow', 'tensorflow'} &"
        " set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]"


def test_the_job_needs_no_tensorflow_and_is_quiet(log, tmp_path):
    path = log("user,item,time\na,x,1\n")
    code = (
        "import sys; from adaptiverec.pipeline import prepare;"
        f"prepare(input=[{path!r}], output={str(tmp_path / 'out')!r},"
        "user_column='user', item_column='item', time_column='time',"
        "min_user_interactions=1, min_item_interactions=1);"
        "print('tensorflow' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "False"
    lines = [line.split(":")[0] for line in done.stderr.splitlines()]
    summary = lines.pop()
    assert lines == ["Reading", "Sorting", "Writing"]
    assert summary.startswith("Prepared 1 rows")

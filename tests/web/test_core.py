"""The page's modules in Node: tokenizer, noise, schedulers and pipeline against what Python has just recorded."""


def test_the_modules_do_what_python_does(npm, recorded):
    done = npm("test")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]

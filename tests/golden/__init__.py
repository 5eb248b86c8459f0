"""Golden tests: results that users see, stored under expected/. A change of code alone must not change them.

The tests run the commands and the HTTP API and compare their results with stored files:

- help/COMMAND.txt: options, values and defaults of each command (test_help).
- submissions/NAME.csv: submissions of small models and of ensembles, and origin.json (test_submissions).
- scores/NAME.json: the files of evaluate's --json and --details (test_scores).
- api/NAME.json: the OpenAPI document and responses (test_api).
- run/tiny.json: files, metrics and keys of a training run (test_run).

After a change that is meant to change results, regenerate the files and read their diff before the commit:

    UPDATE_GOLDEN=1 .venv/bin/python -m pytest tests/golden
    git diff tests/golden/expected

An update leaves inputs/ as it is. inputs/weights/NAME.npz lists the tensors of a small model in the order of its state
dict (numpy.savez_compressed, float16), so they stay valid when tensors get new names, and every machine has the same
weights. inputs/submissions/ are three submissions to score and to join.

Other tests hold two more results, so these are not repeated here:

- A run that is killed, or stopped at an epoch's end, and then resumed has the weights, bit for bit, of a run that was
  never stopped: tests/training/test_run.py, test_a_killed_run_ends_with_the_weights_of_one_never_killed and
  test_a_run_cut_short_at_an_epochs_end_goes_on_alike.
- An ONNX export gives the captions, attention and mos of torch: tests/inference/test_onnx_export.py,
  test_attention_and_photos_at_their_own_size. METEOR's values: tests/metrics/test_meteor.py.
"""

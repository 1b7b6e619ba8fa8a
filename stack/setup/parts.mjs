/** @file The parts of set-up, in the order in which they build on one another. */

import { demoData } from './demo-data.mjs';
import { npmPackages } from './npm-packages.mjs';
import { pythonEnvironment } from './python-environment.mjs';
import { tensorflowBinding } from './tensorflow-binding.mjs';
import { tensorflowLibrary } from './tensorflow-library.mjs';

export const parts = [npmPackages, pythonEnvironment, tensorflowLibrary, tensorflowBinding, demoData];
